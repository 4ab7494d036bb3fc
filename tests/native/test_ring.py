"""The collectives over threads: every dtype and operation, every size around the edges."""

import threading
import time

import ml_dtypes
import numpy as np
import pytest

from mpimlsys import native
from mpimlsys.errors import ConfigError, MpimlsysError, Timeout

SIZES = [0, 1, 2, 3, 5, 8, 63, 64, 65, 1000, 4099]
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.fixture(scope="module")
def extension():
    return native.load()


def on_ranks(extension, ranks, body):
    """Run ``body(transport, rank)`` on threads; returns results or the errors raised."""
    world = extension.ThreadWorld(ranks)
    results = [None] * ranks

    def run(rank):
        try:
            results[rank] = body(world.transport(rank), rank)
        except MpimlsysError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a rank hangs"
    return results


def inputs(dtype, ranks, size):
    rng = np.random.default_rng(size)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return [rng.integers(info.min, info.max, size, dtype, endpoint=True) for _ in range(ranks)]
    return [rng.normal(size=size).astype(dtype) for _ in range(ranks)]


def expected(op, arrays):
    """The operation in the order of the ring: chunk c starts at rank c."""
    ranks, dtype = len(arrays), arrays[0].dtype
    result = np.empty_like(arrays[0])
    parts = np.array_split(np.arange(len(result)), ranks)
    for chunk, part in enumerate(parts):
        total = arrays[chunk][part]
        for step in range(1, ranks):
            other = arrays[(chunk + step) % ranks][part]
            with np.errstate(over="ignore"):
                if op in ("sum", "average"):
                    total = (other + total).astype(dtype)
                else:
                    total = (np.minimum if op == "min" else np.maximum)(other, total)
        if op == "average":
            if np.issubdtype(dtype, np.integer):
                wide = np.int64 if np.issubdtype(dtype, np.signedinteger) else np.uint64
                total = np.trunc(total.astype(wide) / ranks) if dtype.itemsize < 8 else None
                if total is None:
                    exact = [int(v) for v in expected("sum", arrays)[part]]
                    total = np.array(
                        [abs(v) // ranks * (1 if v >= 0 else -1) for v in exact], dtype
                    )
            elif dtype.itemsize == 2:
                total = total.astype(np.float32) / np.float32(ranks)
            else:
                total = total / dtype.type(ranks)
        result[part] = total.astype(dtype)
    return result


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("op", ["sum", "average", "min", "max"])
def test_all_reduce(extension, op, dtype):
    for ranks in (1, 2, 3, 4, 7):
        for size in SIZES:
            arrays = inputs(dtype, ranks, size)
            work = [array.copy() for array in arrays]

            def body(transport, rank, work=work):
                extension.all_reduce(transport, work[rank], op, segment_bytes=64, timeout_s=20)

            assert on_ranks(extension, ranks, body) == [None] * ranks
            wanted = expected(op, arrays)
            for array in work:
                np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=lambda d: np.dtype(d).name)
def test_every_instruction_set_gives_the_same_bits(extension, dtype):
    best = extension.isa()
    assert extension.isa_levels()[0] == "baseline"
    found = {}
    rng = np.random.default_rng(3)
    bits = [rng.integers(0, 256, 1037 * np.dtype(dtype).itemsize, np.uint8) for _ in range(3)]
    try:
        for level in extension.isa_levels():
            extension.set_isa(level)
            for op in ("sum", "average", "min", "max"):
                work = [raw.copy().view(dtype) for raw in bits]

                def body(transport, rank, work=work, op=op):
                    extension.all_reduce(transport, work[rank], op, timeout_s=20)

                on_ranks(extension, 3, body)
                # which NaN comes out is not promised, that it is one is
                values = work[0].astype(np.float64) if dtype in FLOATS else work[0]
                found.setdefault(op, []).append(values)
    finally:
        extension.set_isa(best)
    for levels in found.values():
        for values in levels[1:]:
            np.testing.assert_array_equal(values, levels[0])


def test_half_precision_rounds_as_numpy_does(extension):
    everything = np.arange(65536, dtype=np.uint16)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        for level in extension.isa_levels():
            extension.set_isa(level)
            a, b = everything.view(dtype).copy(), np.roll(everything, 977).view(dtype)
            wanted = (a.astype(np.float32) + b.astype(np.float32)).astype(dtype)
            pair = [a, b.copy()]

            def body(transport, rank, pair=pair):
                extension.all_reduce(transport, pair[rank], "sum", timeout_s=20)

            on_ranks(extension, 2, body)
            np.testing.assert_array_equal(pair[0].astype(np.float32), wanted.astype(np.float32))


def test_nan_survives_min_and_max(extension):
    for op in ("min", "max"):
        arrays = [
            np.array([np.nan, 1.0, 2.0], np.float32),
            np.array([1.0, np.nan, 3.0], np.float32),
        ]

        def body(transport, rank, arrays=arrays, op=op):
            extension.all_reduce(transport, arrays[rank], op, timeout_s=20)

        on_ranks(extension, 2, body)
        assert np.isnan(arrays[0][:2]).all()
        assert arrays[0][2] == (2.0 if op == "min" else 3.0)


def test_bfloat16_as_bits(extension):
    arrays = [np.full(9, 0x3F80, np.uint16) for _ in range(2)]

    def body(transport, rank):
        extension.all_reduce(transport, arrays[rank], "sum", dtype="bfloat16", timeout_s=20)

    on_ranks(extension, 2, body)
    assert (arrays[0] == 0x4000).all()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_broadcast_and_all_gather(extension, ranks):
    for size in SIZES:
        for root in range(ranks):
            arrays = [np.full(size, rank, np.int32) for rank in range(ranks)]

            def body(transport, rank, arrays=arrays, root=root):
                extension.broadcast(transport, arrays[rank], root, segment_bytes=32, timeout_s=20)

            assert on_ranks(extension, ranks, body) == [None] * ranks
            assert all((array == root).all() for array in arrays)

        def gather(transport, rank, size=size):
            whole = np.empty((ranks, size), np.int16)
            extension.all_gather(transport, np.full(size, rank, np.int16), whole, timeout_s=20)
            return whole

        for whole in on_ranks(extension, ranks, gather):
            assert (whole == np.arange(ranks)[:, None]).all()


MISTAKES = {
    "count": (lambda rank: np.zeros(10 + (rank == 2), np.float32), "sum", "rank 0 passed a number"),
    "dtype": (
        lambda rank: np.zeros(8, np.float32 if rank else np.float64),
        "sum",
        "rank 1 passed dtype float32, rank 0 float64",
    ),
    "contiguity": (
        lambda rank: np.zeros(8, np.float32) if rank != 1 else np.zeros(16, np.float32)[::2],
        "sum",
        "rank 1 passed an array that is not C-contiguous",
    ),
    "unsupported": (
        lambda rank: np.zeros(8, np.float32 if rank else np.complex64),
        "sum",
        "rank 0 passed an array of a dtype that cannot be reduced",
    ),
    "byte order": (
        lambda rank: np.zeros(8, ">f4" if rank == 2 else "<f4"),
        "sum",
        "rank 2 passed an array that is not aligned or not in native byte order",
    ),
    "operation": (lambda _: np.zeros(8), ("sum", "max", "sum"), "the ranks disagree"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_one_rank_is_the_same_error_on_every_rank(extension, name):
    make, op, message = MISTAKES[name]

    def body(transport, rank):
        chosen = op if isinstance(op, str) else op[rank]
        extension.all_reduce(transport, make(rank), chosen, timeout_s=20)

    errors = on_ranks(extension, 3, body)
    assert all(isinstance(error, ConfigError) for error in errors)
    assert len({str(error) for error in errors}) == 1
    assert message in str(errors[0])


def test_read_only_and_different_collectives(extension):
    def read_only(transport, rank):
        array = np.zeros(4)
        array.flags.writeable = rank != 0
        extension.all_reduce(transport, array, timeout_s=20)

    errors = on_ranks(extension, 2, read_only)
    assert all("rank 0 passed an array that is read-only" in str(error) for error in errors)

    def mixed(transport, rank):
        if rank:
            extension.broadcast(transport, np.zeros(4), 0, timeout_s=20)
        else:
            extension.all_reduce(transport, np.zeros(4), timeout_s=20)

    for error in on_ranks(extension, 2, mixed):
        assert "rank 0 called all-reduce, rank 1 broadcast" in str(error)


def test_a_root_that_is_no_rank_and_an_operation_that_is_none(extension):
    errors = on_ranks(
        extension, 2, lambda t, _: extension.broadcast(t, np.zeros(3), 5, timeout_s=9)
    )
    assert all("a root that is not a rank" in str(error) for error in errors)
    errors = on_ranks(extension, 2, lambda t, _: extension.all_reduce(t, np.zeros(3), "mean"))
    assert all("op = 'mean' is unknown" in str(error) for error in errors)


def test_a_rank_that_does_not_come_is_named(extension):
    def body(transport, rank):
        if rank != 1:
            extension.all_reduce(transport, np.zeros(9), label="bucket 3", timeout_s=0.3)

    results = on_ranks(extension, 3, body)
    assert results[1] is None
    for rank in (0, 2):
        error = results[rank]
        assert isinstance(error, Timeout)
        assert f"all-reduce #1 of bucket 3 on rank {rank} after 0.3" in str(error)
    assert any("receive from rank 1: no answer" in str(results[rank]) for rank in (0, 2))


class TestEngine:
    def test_operations_run_in_order_in_the_background(self, extension):
        def body(transport, rank):
            engine = extension.Engine(transport)
            arrays = [np.full(1000, rank + i, np.float32) for i in range(20)]
            tickets = [engine.all_reduce(array, "sum") for array in arrays]
            engine.wait(tickets[-1], timeout_s=20)
            assert all(engine.done(ticket) for ticket in tickets)
            engine.close()
            return [array[0] for array in arrays]

        for values in on_ranks(extension, 3, body):
            assert values == [3 + 3 * i for i in range(20)]

    def test_a_failure_ends_the_engine_with_the_first_error(self, extension):
        def body(transport, rank):
            engine = extension.Engine(transport)
            first = engine.all_reduce(np.zeros(4 + rank), label="bucket 0")
            second = engine.all_reduce(np.zeros(4), label="bucket 1")
            messages = []
            for ticket in (first, second):
                with pytest.raises(ConfigError) as error:
                    engine.wait(ticket, timeout_s=20)
                messages.append(str(error.value))
            with pytest.raises(ConfigError, match="of bucket 0"):
                engine.all_reduce(np.zeros(4))
            engine.close()
            return messages

        for first, second in on_ranks(extension, 2, body):
            assert first == second
            assert "all-reduce #1 of bucket 0: the ranks disagree" in first

    def test_waiting_and_closing_have_deadlines(self, extension):
        world = extension.ThreadWorld(2)
        engine = extension.Engine(world.transport(0))
        ticket = engine.all_reduce(np.zeros(5), label="bucket 7", timeout_s=100)
        assert not engine.done(ticket)
        with pytest.raises(Timeout, match="in all-reduce of bucket 7"):
            engine.wait(ticket, timeout_s=0.2)
        started = time.monotonic()
        engine.close(timeout_s=0.1)
        assert time.monotonic() - started < 20


def test_the_flavour_follows_the_vendor_or_else_the_handles():
    assert native.flavour_for("Open MPI", 8) == "openmpi"
    for vendor in ("MPICH", "Intel MPI", "MVAPICH2", "Cray MPICH"):
        assert native.flavour_for(vendor, 4) == "mpich"
    assert native.flavour_for("New MPI", 8) == "openmpi"
    assert native.flavour_for("New MPI", 4) == "mpich"


def test_the_extension_says_what_it_was_built_with(extension):
    info = extension.build_info()
    assert info["flavour"] in native.FLAVOURS
    assert info["flavour"] in native.built_flavours()
    assert info["handle_size"] in (4, 8)


def test_a_missing_flavour_says_how_to_rebuild(monkeypatch):
    monkeypatch.setattr(native, "flavour_for", lambda *_: "mpich_of_another_kind")
    with pytest.raises(ConfigError, match=r"was built for (openmpi|mpich).*Rebuild it"):
        native.load()
