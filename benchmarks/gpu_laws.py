"""What has to hold on a GPU: frames are the CPU's byte for byte, reductions are NumPy's.

    python benchmarks/gpu_laws.py [--law NAME] [--reduced]

prints a line for each law, and the first things that do not hold; exit status 1 when there are
any. ``--law`` looks at one alone, as an error of CUDA is also that of everything after it.
``--reduced`` is for compute-sanitizer, under which everything takes long. Arrays lie in
allocations of their own, so that it sees an access beside them, and have a guard behind them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from gpu_card import Card, Report
from gpu_norms import norms
from gpu_reductions import reductions

from mpimlsys.compress.codec import DENSE, Codec, parse
from mpimlsys.device import gpu
from mpimlsys.device.memory import Memory
from mpimlsys.errors import MpimlsysError

DENSE_TEXTS = (
    "fp16",
    "bf16",
    "fp8_e4m3",
    "fp8_e5m2",
    "int8",
    "int8:stochastic",
    "int4",
    "int4:stochastic",
    "int2",
    "int2:stochastic",
    "sign",
    "ternary",
    "natural",
)
SPARSE_TEXTS = (
    "top_k:0.01",
    "top_k:0.6",
    "top_k:0.1:sampled",
    "top_k:0.001:sampled",
    "random_k:0.01",
    "random_k:0.6",
    "random_k:0.1:unbiased",
    "threshold:0.01",
    "threshold:0.5",
)
# around blocks of 8 and 256 elements and tiles of 2048, and longer than what runs at a time
SIZES = (0, 1, 2, 7, 8, 9, 31, 33, 255, 256, 257, 2047, 2048, 2049, 4097, 10007, 40000, 1000003)
REDUCED_SIZES = (0, 1, 257, 2049, 10007)
KINDS = ("ties", "zeros", "huge", "strange")
SHOWN = 10


def every_codec(card: Card) -> list[Codec]:
    """All codecs that have frames on the device, with their options."""
    found = [DENSE, *map(parse, DENSE_TEXTS), *map(parse, SPARSE_TEXTS)]
    for sparse in ("top_k:0.05", "random_k:0.05", "threshold:0.3"):
        found += [parse(f"{sparse}+{values}") for values in DENSE_TEXTS if ":" not in values]
    rows = {row["name"] for row in card.extension.codecs()} - {"power_sgd"}
    assert {codec.name for codec in found} == rows, "a codec is not in the list above"
    return found


def array_of(kind: str, count: int, seed: int) -> Any:
    """Float32: of several magnitudes, of few values, or of those that are easily got wrong."""
    random = np.random.default_rng(seed)
    signs = random.choice(np.array([-1, 1], np.float32), count)
    if kind == "numbers":
        normal = random.standard_normal(count, np.float32)
        return np.ldexp(normal, -random.integers(0, 12, count)).astype(np.float32)
    if kind == "ties":
        return np.float32(0.25) * signs
    if kind == "zeros":
        return np.float32(0) * signs
    exponents = random.integers(-149, 128, count)
    found = np.ldexp(np.float32(1.5) * signs, exponents).astype(np.float32)
    if kind == "strange":
        found[random.random(count) < 0.002] = np.inf
        found[random.random(count) < 0.002] = -np.inf
        found[random.random(count) < 0.002] = np.nan
    return found


def same_numbers(a: Any, b: Any) -> bool:
    """Whether arrays of float32 have the same bits, but for those of NaN."""
    equal = a.view(np.uint32) == b.view(np.uint32)
    return a.size == b.size and bool((equal | (np.isnan(a) & np.isnan(b))).all())


def on_cpu(
    card: Card, spec: Any, x: Any, feedback: str, kept: Any, draw: dict[str, int]
) -> tuple[Any, Any]:
    """The frame and what error feedback keeps, as the CPU makes them."""
    extension = card.extension
    if feedback == "none":
        return extension.encode(spec, x, **draw), kept
    sent = kept + x if feedback == "classic" else x - kept
    frame = extension.encode(spec, sent, **draw)
    after = sent.copy() if feedback == "classic" else kept.copy()
    extension.add_into(frame, -1.0 if feedback == "classic" else 1.0, after)
    return frame, after


def check_frame(
    report: Report, card: Card, codec: Codec, kind: str, x: Any, feedback: str, shift: int
) -> None:
    """Encode, decode and add on the device, beside the CPU."""
    what = f"{codec}, {x.size} elements ({kind}), feedback {feedback}, shifted by {shift}"
    spec, device, stream = codec.native(card.extension), card.device, card.stream
    draw = {"key": 3 + x.size, "first": 1000}
    before = array_of("numbers", x.size, 77)
    frame, after = on_cpu(card, spec, x, feedback, before, draw)

    source, kept = card.put(x, shift), card.put(before, shift)
    made = card.room_for_frame(spec, x.size)
    options = {} if feedback == "none" else {"feedback": feedback, "kept": kept.address}
    device.encode(spec, source.address, x.size, made.address, stream=stream, **draw, **options)
    got, whole = card.get(made)
    # a sum that is NaN has other bits on a GPU
    if kind == "strange" and feedback != "none":
        decoded = [card.extension.decode(one) for one in (got[: len(frame)].copy(), frame)]
        report.check(same_numbers(*decoded), f"{what}: the frame decodes to something else")
    else:
        equal = np.array_equal(got[: len(frame)], frame)
        report.check(equal, f"{what}: the frame is not the CPU's")
    report.check(whole, f"{what}: something was written behind the frame")
    residual, whole = card.get(kept)
    report.check(same_numbers(residual, after) and whole, f"{what}: the residual is not the CPU's")

    sent = card.put(frame, room=made.room)
    placed = sent.address, len(frame)
    for name in ("decoded", "added", "added twice"):
        wanted = np.full(x.size, 3, np.float32)
        into = card.put(wanted, shift)
        if name == "decoded":
            card.extension.decode_into(frame, wanted)
            device.decode(spec, x.size, *placed, into.address, stream=stream)
        else:
            times = 1 if name == "added" else 2
            for _ in range(times):
                card.extension.add_into(frame, -0.5, wanted)
            device.add(spec, x.size, [placed] * times, into.address, stream=stream, factor=-0.5)
        decoded, whole = card.get(into)
        report.check(same_numbers(decoded, wanted) and whole, f"{what}: {name} to something else")


def frames(card: Card, report: Report, *, reduced: bool) -> None:
    """All codecs, around all edges, with each kind of feedback, from aligned arrays and others."""
    sizes = REDUCED_SIZES if reduced else SIZES
    feedbacks = ("none", "classic") if reduced else ("none", "classic", "ef21")
    for codec, size, feedback in product(every_codec(card), sizes, feedbacks):
        x = array_of("numbers", size, size + 1)
        check_frame(report, card, codec, "numbers", x, feedback, size % 3)


def unusual_numbers(card: Card, report: Report, *, reduced: bool) -> None:
    """Ties, zeros of both signs, overflow, infinities and NaN."""
    size = 2051 if reduced else 20001
    for codec, kind, feedback in product(every_codec(card), KINDS, ("none", "classic")):
        check_frame(report, card, codec, kind, array_of(kind, size, 5), feedback, 0)


def damaged_frames(card: Card, report: Report, *, reduced: bool) -> None:
    """Whatever a payload says, nothing is written outside of the array."""
    random = np.random.default_rng(4)
    x = array_of("numbers", 3000, 2)
    for codec in every_codec(card):
        spec = codec.native(card.extension)
        frame = card.extension.encode(spec, x)
        for _ in range(2 if reduced else 20):
            damaged = frame.copy()
            places = random.integers(32, len(frame), 4)  # behind the header
            damaged[places] ^= random.integers(1, 256, 4).astype(np.uint8)
            sent = card.put(damaged, room=-(-len(frame) // 4) * 4)
            into = card.put(np.zeros_like(x))
            placed = [(sent.address, len(frame))]
            card.device.add(spec, x.size, placed, into.address, stream=card.stream)
            report.check(card.get(into)[1], f"{codec}: a damaged frame wrote behind the array")


def streams(card: Card, report: Report, *, reduced: bool) -> None:
    """Work of several streams at the same time, and a stream that waits for another."""
    device = card.device
    own = [device.make_stream() for _ in range(4)]
    size = 5003 if reduced else 300007
    names = ("int8", "top_k:0.01:sampled", "random_k:0.1", "sign")
    codecs = [parse(name) for name in names]
    specs = [codec.native(card.extension) for codec in codecs]
    arrays = [array_of("numbers", size, 100 + i) for i in range(len(own))]
    sources = [card.put(x) for x in arrays]
    work = list(zip(range(len(own)), own, sources, strict=True))
    for turn in range(2 if reduced else 20):
        # every stream has another codec at each turn
        chosen = [specs[(i + turn) % len(specs)] for i in range(len(own))]
        made = [card.room_for_frame(spec, size) for spec in chosen]
        into = [card.put(np.zeros(size, np.float32)) for _ in own]
        wanted = [
            card.extension.encode(spec, x, key=turn) for spec, x in zip(chosen, arrays, strict=True)
        ]
        for i, stream, source in work:
            arguments = chosen[i], source.address, size, made[i].address
            device.encode(*arguments, stream=stream, key=turn)
        for i, stream, _ in work:
            follower = own[(i + 1) % len(own)]
            with card.gpu.event() as event:
                device.record(event, stream)
                device.follow(follower, event)
                device.decode(
                    chosen[i],
                    size,
                    made[i].address,
                    len(wanted[i]),
                    into[i].address,
                    stream=follower,
                )
        for stream in own:
            card.finish(stream)
        for i, frame in enumerate(wanted):
            what = f"turn {turn}, stream {i}"
            equal = np.array_equal(card.get(made[i])[0][: len(frame)], frame)
            report.check(equal, f"{what}: the frame is not the CPU's")
            decoded = card.extension.decode(frame)
            equal = same_numbers(card.get(into[i])[0], decoded)
            report.check(equal, f"{what}: decoded on the next stream to something else")
    for stream in own:
        device.drop_stream(stream)


LAWS: dict[str, Callable[..., None]] = {
    law.__name__: law
    for law in (reductions, norms, streams, frames, unusual_numbers, damaged_frames)
}


def tell(card: Card, names: Iterable[str], *, reduced: bool) -> bool:
    """Look at some laws and print; whether they hold."""
    holds = True
    for name in names:
        report, error = Report(), ""
        try:
            LAWS[name](card, report, reduced=reduced)
        except MpimlsysError as raised:
            error = f"; ended after '{report.last}': {raised}"
        failed = len(report.failures)
        print(f"{name}: {report.checked} checked, {failed} failed{error}", flush=True)
        for failure in report.failures[:SHOWN]:
            print(f"  {failure}", flush=True)
        holds = holds and report.checked > 0 and not failed and not error
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", choices=LAWS, help="one alone (all)")
    parser.add_argument("--reduced", action="store_true", help="few sizes")
    options = parser.parse_args()
    card = Card(gpu(0), partial(Memory, gpu(0)))
    names = [options.law] if options.law else LAWS
    return 0 if tell(card, names, reduced=options.reduced) else 1


if __name__ == "__main__":
    sys.exit(main())
