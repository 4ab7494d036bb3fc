"""Arrays that codecs find hard, and sizes around the edges of blocks."""

import numpy as np

SIZES = [0, 1, 2, 7, 255, 256, 257, 511, 512, 1000, 70001]


def hard_arrays(count):
    """By what is hard about them; float32 of ``count`` elements."""
    rng = np.random.default_rng(count)
    normal = rng.standard_normal(count).astype(np.float32)
    ties = rng.integers(-254, 255, count).astype(np.float32) / 2
    ties[:1] = 127
    exponents = rng.integers(-149, 128, count)
    arrays = {
        "normal": normal,
        "zeros": np.zeros(count, np.float32),
        "zeros of both signs": np.copysign(np.zeros(count, np.float32), normal),
        "all equal": np.full(count, -0.37, np.float32),
        "ties": ties,
        "powers of two": np.ldexp(np.float32(1), exponents).astype(np.float32),
        "every exponent": np.ldexp(normal, exponents - 2).astype(np.float32),
        "denormal": (normal * 2.0**-140).astype(np.float32),
        "tiny": np.full(count, 2.0**-149, np.float32),
        "at the edge of normal": (normal * 2.0**-126).astype(np.float32),
        "large": np.copysign(np.float32(np.finfo(np.float32).max), normal),
        "large and small": np.where(normal > 1, np.float32(3e38), normal * np.float32(1e-20)),
    }
    with np.errstate(over="ignore", invalid="ignore"):
        for name, value in {"nan": np.nan, "infinity": -np.inf}.items():
            spoilt = normal.copy()
            spoilt[rng.integers(0, max(count, 1), min(count, 3))] = value
            arrays[name] = spoilt
    return arrays
