"""The casts against NumPy, ml_dtypes and the formats' own laws, on every instruction set."""

import ml_dtypes
import numpy as np
import pytest
from hard_arrays import SIZES, hard_arrays

from mpimlsys.kernels.codecs import cast

HEADER = 32  # bytes
ORACLE = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}
# of the number, and of the smallest that is not 0
ERROR = {
    "fp16": (2.0**-11, 2.0**-25),
    "bf16": (2.0**-8, 2.0**-134),
    "fp8_e4m3": (2.0**-4, 2.0**-10),
    "fp8_e5m2": (2.0**-3, 2.0**-17),
}
LARGEST = {"fp16": 65504, "bf16": 3.3895e38, "fp8_e4m3": 448, "fp8_e5m2": 57344}
narrowing = pytest.mark.parametrize("codec", ORACLE)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, of overflow and NaN


def every_decision():
    """All upper halves of a float32, with lower halves around what roundings look at."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


@narrowing
def test_every_decision_of_rounding(extension, on_every_isa, codec):
    x = every_decision()
    spec = extension.Spec(codec)
    native = on_every_isa(lambda: extension.encode(spec, x))[HEADER:]
    wanted = x.astype(ORACLE[codec])
    nan = np.isnan(x) | np.isnan(wanted)
    codes = native.view(f"u{wanted.itemsize}")
    assert np.array_equal(codes[~nan], wanted.view(codes.dtype)[~nan])
    assert np.isnan(native.view(wanted.dtype)[nan]).all()
    reference = cast.encode(codec, np.where(np.isnan(x), np.float32(np.nan), x))
    assert np.array_equal(reference.view(codes.dtype)[~nan], codes[~nan])


@narrowing
def test_every_code_is_decoded(extension, on_every_isa, codec):
    wide = ORACLE[codec]
    size = np.dtype(wide).itemsize
    codes = np.arange(1 << 8 * size, dtype=f"u{size}")
    frame = extension.encode(extension.Spec("none"), np.zeros(len(codes), np.float32))
    frame = np.concatenate([frame[:HEADER], codes.view(np.uint8)])
    frame[5] = list(cast.CODECS).index(codec)
    frame[24:32] = np.array([codes.nbytes], np.uint64).view(np.uint8)
    frame[12:16] = 0
    frame[12:16] = np.array([extension.crc32c(frame)], np.uint32).view(np.uint8)
    native = on_every_isa(lambda: extension.decode(frame))
    wanted = codes.view(wide).astype(np.float32)
    assert np.array_equal(native, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(native), np.signbit(wanted))
    assert np.array_equal(cast.decode(codec, codes.view(np.uint8)), wanted, equal_nan=True)


@pytest.mark.parametrize("codec", cast.CODECS)
@pytest.mark.parametrize("count", SIZES)
def test_payloads_are_those_of_the_reference(extension, on_every_isa, codec, count):
    spec = extension.Spec(codec)
    for name, x in hard_arrays(count).items():
        frame = on_every_isa(lambda x=x: extension.encode(spec, x))
        assert frame[HEADER:].tobytes() == cast.encode(codec, x).tobytes(), name
        values = on_every_isa(lambda frame=frame: extension.decode(frame))
        wanted = cast.decode(codec, frame[HEADER:])
        assert np.array_equal(values, wanted, equal_nan=True), name


@narrowing
def test_the_error_is_bounded(extension, codec):
    x = np.float32([*np.geomspace(1e-12, LARGEST[codec], 10007), 0])
    relative, smallest = ERROR[codec]
    for sign in (1, -1):
        error = np.abs(
            extension.decode(extension.encode(extension.Spec(codec), sign * x)) - sign * x
        )
        assert (error <= np.maximum(relative * x, smallest)).all()


def test_float32_is_exact(extension):
    x = every_decision()
    assert extension.encode(extension.Spec("none"), x)[HEADER:].tobytes() == x.tobytes()
