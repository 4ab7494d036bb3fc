"""Results of the collectives over threads: each dtype, operation, size around the edges."""

import array

import ml_dtypes
import numpy as np
import pytest

SIZES = [0, 1, 2, 3, 5, 8, 63, 64, 65, 1000, 4099]
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
OPS = ["sum", "average", "min", "max", "product"]
COMBINE = {
    "sum": np.add,
    "average": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "product": np.multiply,
}
EVERYTHING = [
    (op, dtype) for op in OPS for dtype in FLOATS + INTEGERS if op != "average" or dtype in FLOATS
]


def named(value):
    return value if isinstance(value, str) else np.dtype(value).name


def inputs(dtype, ranks, size):
    rng = np.random.default_rng(size)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return [rng.integers(info.min, info.max, size, dtype, endpoint=True) for _ in range(ranks)]
    return [rng.normal(size=size).astype(dtype) for _ in range(ranks)]


def divided(total, ranks):
    """The average of a sum; 16-bit floats are divided in float32."""
    if total.dtype.itemsize == 2:
        return (total.astype(np.float32) / np.float32(ranks)).astype(total.dtype)
    return total / total.dtype.type(ranks)


def around_the_ring(op, arrays):
    """The operation in the order of the ring: chunk c starts at rank c + 1 and ends at rank c."""
    ranks, dtype = len(arrays), arrays[0].dtype
    result = np.empty_like(arrays[0])
    for chunk, part in enumerate(np.array_split(np.arange(len(result)), ranks)):
        total = arrays[(chunk + 1) % ranks][part]
        for step in range(2, ranks + 1):
            total = COMBINE[op](arrays[(chunk + step) % ranks][part], total).astype(dtype)
        result[part] = divided(total, ranks) if op == "average" else total
    return result


def by_rank(op, arrays):
    """The operation in the order of the ranks; 16-bit floats are rounded once, at the end."""
    dtype = arrays[0].dtype
    floats = not np.issubdtype(dtype, np.integer)
    wide = np.dtype(np.float32) if floats and dtype.itemsize == 2 else dtype
    total = arrays[0].astype(wide)
    for other in arrays[1:]:
        total = COMBINE[op](total, other.astype(wide))
    if op == "average" and len(arrays) > 1:
        total = total / wide.type(len(arrays))
    return total.astype(dtype)


@pytest.mark.parametrize(("op", "dtype"), EVERYTHING, ids=named)
def test_the_ring(extension, on_ranks, op, dtype):
    for ranks in (2, 3, 4, 7):
        for size in SIZES:
            arrays = inputs(dtype, ranks, size)
            work = [a.copy() for a in arrays]

            def body(transport, rank, work=work):
                extension.all_reduce(
                    transport, work[rank], op, algorithm="ring", segment_bytes=64, timeout_s=20
                )

            assert on_ranks(ranks, body) == [None] * ranks
            wanted = around_the_ring(op, arrays)
            for result in work:
                np.testing.assert_array_equal(result, wanted)


def by_tree(op, arrays):
    """The operation in a balanced tree; before it pairs, down to a power of two."""
    level = arrays
    while len(level) & (len(level) - 1):
        extra = len(level) - (1 << (len(level).bit_length() - 1))
        pairs = [COMBINE[op](level[2 * i], level[2 * i + 1]) for i in range(extra)]
        level = pairs + level[2 * extra :]
    while len(level) > 1:
        level = [COMBINE[op](a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
    return divided(level[0], len(arrays)) if op == "average" and len(arrays) > 1 else level[0]


@pytest.mark.parametrize("algorithm", ["auto", "doubling", "halving"])
@pytest.mark.parametrize(("op", "dtype"), EVERYTHING, ids=named)
def test_arrays_that_go_along_with_the_agreement(extension, on_ranks, op, dtype, algorithm):
    for ranks in (1, 2, 3, 4, 7):
        for size in (0, 1, 2, 65, 2000):
            arrays = inputs(dtype, ranks, size)
            wanted = by_tree(op, arrays)
            for check in (True, False):
                work = [a.copy() for a in arrays]

                def body(transport, rank, work=work, check=check):
                    extension.all_reduce(
                        transport, work[rank], op, algorithm=algorithm, check=check
                    )

                assert on_ranks(ranks, body) == [None] * ranks
                for result in work:
                    np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("order", ["any", "tree"])
@pytest.mark.parametrize("algorithm", ["auto", "doubling", "halving"])
@pytest.mark.parametrize("op", OPS)
def test_every_algorithm(extension, on_ranks, op, algorithm, order):
    for ranks in (1, 2, 3, 5, 6, 8):
        for size in (0, 1, ranks - 1, ranks, ranks + 1, 63, 64, 65, 10_007):
            arrays = inputs(np.float64, ranks, size)
            work = [a.copy() for a in arrays]

            def body(transport, rank, work=work):
                extension.all_reduce(
                    transport, work[rank], op, algorithm=algorithm, order=order, segment_bytes=64
                )

            assert on_ranks(ranks, body) == [None] * ranks
            np.testing.assert_allclose(work[0], by_rank(op, arrays), rtol=1e-12, atol=1e-12)
            assert len({result.tobytes() for result in work}) == 1


@pytest.mark.parametrize("algorithm", ["auto", "doubling", "halving"])
def test_the_order_of_a_tree_is_independent_of_the_algorithm(extension, on_ranks, algorithm):
    for ranks in (2, 3, 5, 8):
        for size in (5, 1000, 20_000):
            work = inputs(np.float32, ranks, size)
            wanted = by_tree("sum", [a.copy() for a in work])
            on_ranks(
                ranks,
                lambda t, r, w=work: extension.all_reduce(
                    t, w[r], algorithm=algorithm, order="tree"
                ),
            )
            assert work[0].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=lambda d: np.dtype(d).name)
def test_every_instruction_set_gives_the_same_bits(extension, on_ranks, dtype):
    best = extension.isa()
    assert extension.isa_levels()[0] == "baseline"
    found = {}
    rng = np.random.default_rng(3)
    bits = [rng.integers(0, 256, 1037 * np.dtype(dtype).itemsize, np.uint8) for _ in range(3)]
    try:
        for level in extension.isa_levels():
            extension.set_isa(level)
            assert extension.isa() == level
            for op in OPS:
                if op == "average" and dtype in INTEGERS:
                    continue
                work = [raw.copy().view(dtype) for raw in bits]

                def body(transport, rank, work=work, op=op):
                    extension.all_reduce(transport, work[rank], op, timeout_s=20)

                on_ranks(3, body)
                found.setdefault(op, []).append(work[0])
    finally:
        extension.set_isa(best)
    for levels in found.values():
        for values in levels[1:]:
            # which NaN comes out is not promised, that it is one is
            nan = np.isnan(values) if dtype in FLOATS else np.zeros(len(values), bool)
            if dtype in FLOATS:
                np.testing.assert_array_equal(nan, np.isnan(levels[0]))
            assert values[~nan].tobytes() == levels[0][~nan].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, of overflow and NaN
def test_half_precision_rounds_as_numpy_does(extension, on_ranks, dtype):
    everything = np.arange(65536, dtype=np.uint16)
    best = extension.isa()
    try:
        for level in extension.isa_levels():
            extension.set_isa(level)
            a, b = everything.view(dtype).copy(), np.roll(everything, 977).view(dtype)
            wanted = (a.astype(np.float32) + b.astype(np.float32)).astype(dtype)
            pair = [a, b.copy()]

            def body(transport, rank, pair=pair):
                extension.all_reduce(transport, pair[rank], "sum", timeout_s=20)

            on_ranks(2, body)
            np.testing.assert_array_equal(pair[0].astype(np.float32), wanted.astype(np.float32))
    finally:
        extension.set_isa(best)


@pytest.mark.parametrize("op", ["min", "max"])
def test_nan_survives_min_and_max(extension, on_ranks, op):
    arrays = [np.array([np.nan, 1, 2], np.float32), np.array([1, np.nan, 3], np.float32)]
    on_ranks(2, lambda t, rank: extension.all_reduce(t, arrays[rank], op, timeout_s=20))
    assert np.isnan(arrays[0][:2]).all()
    assert arrays[0][2] == (2.0 if op == "min" else 3.0)


def test_bfloat16_as_bits(extension, on_ranks):
    arrays = [np.full(9, 0x3F80, np.uint16) for _ in range(2)]

    def body(transport, rank):
        extension.all_reduce(transport, arrays[rank], "sum", dtype="bfloat16", timeout_s=20)

    assert on_ranks(2, body) == [None, None]
    assert (arrays[0] == 0x4000).all()


def test_what_shares_memory_is_reduced_in_place(extension, on_ranks):
    def body(transport, rank):
        unaligned = np.zeros(41, np.uint8)[1:].view(np.float32)
        unaligned[:] = rank
        extension.all_reduce(transport, unaligned, timeout_s=20)
        buffer = array.array("d", [rank, 1.0])
        extension.all_reduce(transport, buffer, timeout_s=20)
        raw = bytearray([1, rank])
        extension.all_reduce(transport, raw, "max", timeout_s=20)
        grid = np.full((3, 4), rank, np.int64)
        extension.all_reduce(transport, grid, timeout_s=20)
        return (unaligned == 3).all(), list(buffer), bytes(raw), (grid == 3).all()

    assert on_ranks(3, body) == [(True, [3.0, 3.0], b"\x01\x02", True)] * 3


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_broadcast_and_all_gather(extension, on_ranks, ranks):
    for size in SIZES:
        for root in range(ranks):
            arrays = [np.full(size, rank, np.int32) for rank in range(ranks)]
            arrays[root].flags.writeable = False

            def body(transport, rank, arrays=arrays, root=root):
                extension.broadcast(transport, arrays[rank], root, segment_bytes=32, timeout_s=20)

            assert on_ranks(ranks, body) == [None] * ranks
            assert all((result == root).all() for result in arrays)

        def gather(transport, rank, size=size):
            whole = np.empty((ranks, size), np.int16)
            extension.all_gather(
                transport, np.full(size, rank, np.int16), whole, segment_bytes=32, timeout_s=20
            )
            return whole

        for whole in on_ranks(ranks, gather):
            assert (whole == np.arange(ranks)[:, None]).all()


def test_any_plain_type_can_be_copied(extension, on_ranks):
    def body(transport, rank):
        names = np.array(["root" if rank == 0 else "else"] * 3)
        extension.broadcast(transport, names, 0, timeout_s=20)
        numbers = np.full(3, rank, np.complex128)
        extension.broadcast(transport, numbers, 1, timeout_s=20)
        return names[2], numbers[0]

    assert on_ranks(2, body) == [("root", 1 + 0j)] * 2
