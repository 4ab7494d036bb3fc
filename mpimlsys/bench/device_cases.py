"""What ``bench codecs --device cuda`` times: operations on arrays of one size in a GPU's memory.

Each puts the memory right, starts what is timed, and compares what came of it with the CPU's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mpimlsys import native
from mpimlsys.compress.codec import SPARSE, Codec
from mpimlsys.device import Gpu
from mpimlsys.types import Array

FRAMES = 8  # that are added up
_SECTOR_BYTES = 32
_SHIFT = 4096  # elements between the arrays that frames to be added are of
_AHEAD = 4
_TIMEOUT_S = 60.0
_KEY = 1


class Block(Protocol):
    """Memory of the device for as long as this object lives."""

    @property
    def address(self) -> int:
        """Of the first byte, a multiple of 32."""


Allocate = Callable[[int], Block]  # of bytes


@dataclass
class Case:
    """One operation: what puts the device's memory right, what is timed, and what looks at it.

    ``wrong`` says what was not as it has to be, once it was not.
    """

    codec: Codec | None
    operation: str
    bytes_moved: int
    frame_bytes: int
    prepare: Callable[[], None]
    start: Callable[[], object]
    check: Callable[[], None]
    times: list[float] = field(default_factory=list)
    wrong: str = ""

    @property
    def median_s(self) -> float | None:
        """Of the times, where there are any."""
        return float(np.median(self.times)) if self.times else None


class Arrays:
    """Arrays of one size on the device, and the stream that works on them."""

    def __init__(
        self, card: Gpu, allocate: Allocate, stream: int, count: int, codecs: Sequence[Codec]
    ) -> None:
        self.extension = native.load()
        self.card = card
        self.device = card.native
        self.allocate = allocate
        self.stream = stream
        self.count = count
        self.nbytes = 4 * count
        generator = np.random.default_rng(0)
        self.source = generator.standard_normal(count + _SHIFT * (FRAMES - 1), np.float32)
        self.x = self.source[:count]
        self.residual = 0.1 * generator.standard_normal(count, np.float32)
        self.on_device = allocate(self.nbytes)
        self.residual_on_device = allocate(self.nbytes)
        self.kept = allocate(self.nbytes)
        self.into = allocate(self.nbytes)
        self.other = allocate(self.nbytes)
        self.zeros = allocate(self.nbytes)
        most = max(
            self.extension.frame_bound(codec.native(self.extension), count) for codec in codecs
        )
        self.frame = allocate(_room_for(most))
        self.host = np.empty(max(self.nbytes, most), np.uint8)  # what comes from the device
        self.upload(self.zeros.address, np.zeros(count, np.float32))
        self.upload(self.on_device.address, self.x)
        self.upload(self.residual_on_device.address, self.residual)

    def copy(self, into: int, source: int, nbytes: int) -> None:
        self.device.copy(into, source, nbytes, stream=self.stream)

    def upload(self, into: int, array: Array) -> None:
        self.copy(into, array.ctypes.data, array.nbytes)
        self.finish()

    def download(self, source: int, nbytes: int) -> Array:
        """A view of memory that the next call writes to."""
        self.copy(self.host.ctypes.data, source, nbytes)
        self.finish()
        return self.host[:nbytes]

    def finish(self) -> None:
        with self.card.event() as event:
            self.device.record(event, self.stream)
            self.card.wait(event, _TIMEOUT_S, "a benchmark's copies")

    def seconds(self, start: Callable[[], object]) -> float:
        with self.card.event(timed=True) as before, self.card.event(timed=True) as after:
            for _ in range(_AHEAD):  # what is timed is started while they run
                self.copy(self.other.address, self.residual_on_device.address, self.nbytes)
            self.device.record(before, self.stream)
            start()
            self.device.record(after, self.stream)
            self.card.wait(after, _TIMEOUT_S, "a benchmark's kernels")
            return float(self.device.seconds_between(before, after))

    def must_be(self, codec: Codec, what: str, wanted: int, address: int) -> None:
        """Compare an array of the device with a checksum."""
        if self.extension.crc32c(self.download(address, self.nbytes)) != wanted:
            raise AssertionError(f"{codec}: {what} on the device is not what the CPU computes")


@contextmanager
def arrays_on(
    card: Gpu, allocate: Allocate, count: int, codecs: Sequence[Codec]
) -> Iterator[Arrays]:
    """Arrays of ``count`` float32 on a GPU, for a while."""
    stream = card.native.make_stream()
    try:
        arrays = Arrays(card, allocate, stream, count, codecs)
        place = arrays.host.ctypes.data
        card.native.pin(place, arrays.host.nbytes)
        try:
            yield arrays
        finally:
            arrays.finish()
            card.native.unpin(place)
    finally:
        card.native.drop_stream(stream)


def _nothing() -> None:
    """For operations that need no preparation, or whose results are not looked at."""


def copy_case(arrays: Arrays) -> Case:
    def check() -> None:
        got = arrays.download(arrays.into.address, arrays.nbytes)
        if not _same(got, arrays.x.view(np.uint8)):
            raise AssertionError("the device's copy is not what was copied")

    def start() -> None:
        arrays.copy(arrays.into.address, arrays.on_device.address, arrays.nbytes)

    return Case(None, "copy", 2 * arrays.nbytes, 0, _nothing, start, check)


def cases_of(arrays: Arrays, codec: Codec) -> list[Case]:
    """The operations of one codec."""
    extension, device, count = arrays.extension, arrays.device, arrays.count
    spec, frame = codec.native(extension), arrays.frame.address
    plain = extension.encode(spec, arrays.x, key=_KEY)
    kept = arrays.residual + arrays.x
    fed = extension.encode(spec, kept, key=_KEY)
    extension.add_into(fed, -1.0, kept)
    kept_sum = extension.crc32c(kept.view(np.uint8))
    decoded = extension.decode(plain)
    decoded_sum = extension.crc32c(decoded.view(np.uint8))
    read = _touched_bytes(decoded) if codec.name == "random_k" else arrays.nbytes

    def encode() -> None:
        device.encode(spec, arrays.on_device.address, count, frame, stream=arrays.stream, key=_KEY)

    def encode_feedback() -> None:
        device.encode(
            spec,
            arrays.on_device.address,
            count,
            frame,
            stream=arrays.stream,
            feedback="classic",
            kept=arrays.kept.address,
            key=_KEY,
        )

    def reset_kept() -> None:
        arrays.copy(arrays.kept.address, arrays.residual_on_device.address, arrays.nbytes)

    def check_plain() -> None:
        _must_be_frame(arrays, codec, plain)

    def check_fed() -> None:
        _must_be_frame(arrays, codec, fed)
        arrays.must_be(codec, "the residual", kept_sum, arrays.kept.address)

    def send_frame() -> None:
        arrays.upload(frame, plain)

    def decode() -> None:
        device.decode(spec, count, frame, len(plain), arrays.into.address, stream=arrays.stream)

    def check_decoded() -> None:
        arrays.must_be(codec, "the decoded array", decoded_sum, arrays.into.address)

    def case(
        operation: str,
        moved: int,
        length: int,
        prepare: Callable[[], None],
        start: Callable[[], None],
        check: Callable[[], None],
    ) -> Case:
        return Case(codec, operation, moved + length, length, prepare, start, check)

    found = [
        case("encode", read, len(plain), _nothing, encode, check_plain),
        case(
            "encode_feedback", 3 * arrays.nbytes, len(fed), reset_kept, encode_feedback, check_fed
        ),
        case("decode", arrays.nbytes, len(plain), send_frame, decode, check_decoded),
    ]
    if codec.name in SPARSE:
        found.append(_adding(arrays, codec))
    return found


def _adding(arrays: Arrays, codec: Codec) -> Case:
    """Frames of several arrays, as those of several ranks, added to one."""
    extension, device, count = arrays.extension, arrays.device, arrays.count
    spec = codec.native(extension)
    frames = [
        extension.encode(spec, arrays.source[_SHIFT * i : _SHIFT * i + count], key=_KEY + i)
        for i in range(FRAMES)
    ]
    total = np.zeros(count, np.float32)
    moved = 0
    for frame in frames:
        extension.add_into(frame, 1.0, total)
        moved += len(frame) + 2 * _touched_bytes(extension.decode(frame))
    total_sum = extension.crc32c(total.view(np.uint8))
    places = [arrays.allocate(_room_for(len(frame))) for frame in frames]
    for frame, place in zip(frames, places, strict=True):
        arrays.upload(place.address, frame)

    def reset() -> None:
        arrays.copy(arrays.into.address, arrays.zeros.address, arrays.nbytes)

    lengths = [len(frame) for frame in frames]

    def start() -> None:
        placed = [(place.address, nbytes) for place, nbytes in zip(places, lengths, strict=True)]
        device.add(spec, count, placed, arrays.into.address, stream=arrays.stream)

    def check() -> None:
        arrays.must_be(codec, f"the sum of {FRAMES} frames", total_sum, arrays.into.address)

    return Case(codec, f"add_{FRAMES}", moved, sum(lengths), reset, start, check)


def torch_topk(arrays: Arrays, codec: Codec) -> Case | None:
    """``torch.topk`` of the magnitudes, on the same stream; None without PyTorch for CUDA."""
    if codec.name != "top_k" or importlib.util.find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    x = torch.from_numpy(arrays.x).to(f"cuda:{arrays.card.number}")
    keep = max(round(codec.amount * arrays.count), 1)
    # PyTorch has no types for it; unused where PyTorch is not installed
    stream = torch.cuda.ExternalStream(arrays.stream, device=x.device)  # type: ignore[no-untyped-call,unused-ignore]

    def start() -> None:
        with torch.cuda.stream(stream):
            torch.topk(x.abs(), keep)

    torch.cuda.synchronize(x.device)
    return Case(codec, "torch.topk", arrays.nbytes, 0, _nothing, start, _nothing)


def _must_be_frame(arrays: Arrays, codec: Codec, wanted: Array) -> None:
    if not _same(arrays.download(arrays.frame.address, len(wanted)), wanted):
        raise AssertionError(f"{codec}: the device's frame is not the CPU's")


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays of bytes, of one length, are equal."""
    whole = len(a) // 8 * 8
    words = np.array_equal(a[:whole].view(np.uint64), b[:whole].view(np.uint64))
    return words and np.array_equal(a[whole:], b[whole:])


def _touched_bytes(decoded: Array) -> int:
    """Bytes of the sectors in which an array has an element that is not 0."""
    padded = np.zeros(-(-len(decoded) // 8) * 8, bool)
    padded[: len(decoded)] = decoded != 0
    return _SECTOR_BYTES * int(np.count_nonzero(padded.reshape(-1, 8).any(axis=1)))


def _room_for(nbytes: int) -> int:
    """Room that frames on the device need for so many bytes."""
    return (nbytes + 15) // 16 * 16
