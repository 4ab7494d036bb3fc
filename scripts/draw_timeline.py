r"""Draw one step of every rank of a trace: docs/images/timeline.png.

mpimlsys launch -n 2 examples/mnist_cnn.toml --set job.max_steps=60 --set model.name=mlp \
    --set 'model.hidden=[512,512]' --set comm.algorithm=ring --trace trace.json
python scripts/draw_timeline.py trace.json docs/images/timeline.png --step 50
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Event = dict[str, Any]
_COLOURS = {
    "step": "#d9d9d9",
    "data": "#bab0ac",
    "forward": "#4e79a7",
    "backward": "#f28e2b",
    "exchange": "#e15759",
    "optimizer": "#59a14f",
}
_COLLECTIVE, _PHASE = "#b07aa1", "#d4a6c8"
_LETTER = 0.0046  # of the picture's width
_HEIGHT = 0.21  # of a bar; rows are 1 apart


def main() -> None:
    """Read the trace, draw the step, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--step", type=int, required=True)
    options = parser.parse_args()
    events = json.loads(options.trace.read_text())["traceEvents"]
    steps = [e for e in events if e["name"] == "step" and e["args"]["number"] == options.step]
    start = min(e["ts"] for e in steps)
    end = max(e["ts"] + e["dur"] for e in steps)
    tracks = [e for e in events if e["name"] == "thread_name"]
    rows = [(t["pid"], t["tid"], t["args"]["name"]) for t in tracks]
    shown = [e for e in events if e["ph"] == "X" and start <= e["ts"] < end]
    rows = sorted(row for row in rows if any((e["pid"], e["tid"]) == row[:2] for e in shown))

    figure, axes = plt.subplots(figsize=(11, 1.1 * len(rows) + 0.8), layout="constrained")
    for place, (rank, thread, name) in enumerate(rows):
        own = [e for e in shown if (e["pid"], e["tid"]) == (rank, thread)]
        for event, depth in with_depths(own):
            _bar(axes, event, place, depth, start, end)
        if name == "exchange":
            for begun, ended in waits(events, rank, start, end):
                axes.plot([begun - start, ended - start], [place - 0.44] * 2, color="black", lw=2)
    axes.set_yticks(range(len(rows)), [f"rank {rank}\n{name}" for rank, _, name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, end - start)
    axes.set_xlabel(f"microseconds since the beginning of step {options.step}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(options.picture, dpi=120)


def with_depths(events: list[Event]) -> list[tuple[Event, int]]:
    """Events of one thread, each with the number of events around it."""
    found, ends = [], []
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        while ends and ends[-1] <= event["ts"] + 5e-4:
            ends.pop()
        found.append((event, len(ends)))
        ends.append(event["ts"] + event["dur"])
    return found


def waits(events: list[Event], rank: int, start: float, end: float) -> list[tuple[float, float]]:
    """When buckets of a rank were ready, and when their exchange began."""
    own = [e for e in events if e["ph"] in "be" and e["pid"] == rank and start <= e["ts"] < end]
    ends = {e["id2"]["local"]: e["ts"] for e in own if e["ph"] == "e"}
    return [(e["ts"], ends[e["id2"]["local"]]) for e in own if e["ph"] == "b"]


def _bar(axes: Any, event: Event, row: int, depth: int, start: float, end: float) -> None:
    collective = _COLLECTIVE if "bytes" in event.get("args", {}) else _PHASE
    colour = _COLOURS.get(event["name"], collective)
    left, bottom = event["ts"] - start, row - 0.4 + depth * _HEIGHT
    axes.add_patch(
        plt.Rectangle((left, bottom), event["dur"], _HEIGHT, facecolor=colour, edgecolor="white")
    )
    if event["dur"] > _LETTER * len(event["name"]) * (end - start):
        axes.text(
            left + event["dur"] / 2, bottom + _HEIGHT / 2, event["name"],
            ha="center", va="center", fontsize=7, clip_on=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
