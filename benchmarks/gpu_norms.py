"""Norms and rows on a GPU, beside NumPy; a law of gpu_laws.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpu_card import Card, Report

LANES, TILE = 256, 2048  # of csrc/base/squares.hpp
SIZES = (0, 1, 255, 256, 257, 2047, 2048, 2049, 10007, 600001, 5000003)
REDUCED_SIZES = (0, 1, 257, 2049, 10007)


def squares_of(x: Any) -> float:
    """The sum of the squares, in the order of the extension."""
    wide = np.zeros(-(-x.size // TILE) * TILE)
    wide[: x.size] = x
    tiles = (wide * wide).reshape(-1, TILE // LANES, LANES)
    lanes = np.zeros((len(tiles), LANES))
    for row in range(tiles.shape[1]):
        lanes += tiles[:, row]
    sums = halved(lanes)
    total = np.zeros(LANES)
    for start in range(0, len(sums), LANES):
        own = sums[start : start + LANES]
        total[: len(own)] += own
    return float(halved(total[None])[0])


def halved(lanes: Any) -> Any:
    """The sum of each row: halves are added to one another."""
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def norms(card: Card, report: Report, *, reduced: bool) -> None:
    """Squares to the last bit, clipping by the factor of the CPU, and rows to and fro."""
    device, stream = card.device, card.stream
    for size in REDUCED_SIZES if reduced else SIZES:
        x = np.random.default_rng(size).standard_normal(size, np.float32)
        source, into = card.put(x, size % 3), card.put(np.zeros(1))
        device.squares(source.address, size, into.address, stream=stream)
        wanted = squares_of(x)
        report.check(card.get(into)[0][0] == wanted, f"{size} elements: other squares")
        norm = float(np.sqrt(wanted))
        for most in (0.3 * norm, 2 * norm + 1):
            clipped = card.put(x, size % 3)
            device.clip(clipped.address, size, most, stream=stream)
            factor = np.float32(most / norm) if norm > most else np.float32(1)
            got, whole = card.get(clipped)
            equal = np.array_equal(got, factor * x) and whole
            report.check(equal, f"{size} elements clipped at {most:g}: other numbers")
    for rows, length, step in ((1, 64, 64), (1, 5, 64), (7, 64, 192), (1001, 64, 128), (3, 1, 2)):
        whole = np.arange(rows * step, dtype=np.float32)
        there, here = card.put(whole), card.put(np.zeros(rows * length, np.float32))
        nbytes = 4 * length
        arguments = here.address, nbytes, there.address, 4 * step, nbytes, rows
        device.copy_rows(*arguments, stream=stream)
        wanted = whole.reshape(rows, step)[:, :length]
        what = f"{rows} rows of {length} every {step}"
        report.check(np.array_equal(card.get(here)[0], wanted.reshape(-1)), f"{what}: collected")
        back = card.put(np.zeros_like(whole))
        arguments = back.address, 4 * step, here.address, nbytes, nbytes, rows
        device.copy_rows(*arguments, stream=stream)
        spread = np.zeros((rows, step), np.float32)
        spread[:, :length] = wanted
        report.check(np.array_equal(card.get(back)[0], spread.reshape(-1)), f"{what}: spread")
