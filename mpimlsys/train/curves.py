"""The picture of a run: loss over steps, and the measure on the test set beside it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpimlsys.train.durable import cannot_write, replace_file

_WIDTH_IN, _HEIGHT_IN, _DPI = 10.0, 4.2, 100
_RAW, _TRAIN, _TEST = "#b9cfe8", "#1f5fa8", "#d1662b"
_INK, _FAINT = "#333333", "#e4e4e4"
_TITLE: dict[str, Any] = {"fontsize": 13, "fontweight": "bold", "pad": 12, "parse_math": False}
_MOST_POINTS = 2000  # more than the picture has columns
_MOST_MARKERS = 40
_LOG_FROM = 100.0  # largest loss over smallest, from which two decades need a logarithm

Numbers = npt.NDArray[np.float64]


def draw(
    records: Sequence[Mapping[str, Any]], result: Mapping[str, Any], out_png: Path, title: str
) -> None:
    """Draw ``curves.png``, 1000 x 420 pixels.

    Args:
        records: of ``metrics.jsonl``.
        result: of ``result.json``; what it says of the test set is the last point.
        out_png: replaced at once.
        title: name of the run.

    Raises:
        ConfigError: the file system refuses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=_DPI, layout=layout)
    FigureCanvasAgg(figure)  # the figure keeps it
    steps, losses = loss_points(records)
    measure = measure_name(records, result)
    if measure:
        left, right = figure.subplots(1, 2, sharex=True, width_ratios=(3, 2))
        _draw_measure(right, measure, *evaluation_points(records, result, measure))
    else:
        left = figure.subplots()
    _draw_loss(left, steps, losses, *evaluation_points(records, result, "test_loss"))
    left.set_title(title, loc="left", **_TITLE, color=_INK)
    left.set_xlim(0, max([1.0, *steps[-1:]]) * 1.02)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    try:
        replace_file(out_png, image.getvalue())
    except OSError as error:
        raise cannot_write(out_png, error, "job.out") from error


def loss_points(records: Sequence[Mapping[str, Any]]) -> tuple[Numbers, Numbers]:
    """Steps and losses, NaN where a loss was not finite; long runs averaged to fewer points."""
    rows = [(record["step"], _number(record["loss"])) for record in records if "loss" in record]
    steps, losses = np.array(rows, np.float64).reshape(-1, 2).T
    group = -(-len(steps) // _MOST_POINTS)
    if group <= 1:
        return steps, losses
    starts = np.arange(0, len(steps), group)
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(losses, starts) / counts


def measure_name(records: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
    """Such as ``test_accuracy``; empty when nothing was measured."""
    for source in (*_evaluations(records), result):
        for key in source:
            if key.startswith(("test_", "train_")) and not key.endswith("_loss"):
                return key
    return ""


def evaluation_points(
    records: Sequence[Mapping[str, Any]], result: Mapping[str, Any], name: str
) -> tuple[Numbers, Numbers]:
    """Steps and values of ``name`` at the evaluations and at the end."""
    points = {row["step"]: _number(row[name]) for row in _evaluations(records) if name in row}
    if name in result and "steps" in result:
        points[result["steps"]] = _number(result[name])
    rows = np.array(sorted(points.items()), np.float64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def smooth(values: Numbers, width: int) -> Numbers:
    """Mean over ``width`` neighbours (fewer at the ends), ignoring NaN; NaN stays where it was.

    Args:
        width: odd.
    """
    known = np.isfinite(values)
    kernel = np.ones(width)
    total = np.convolve(np.where(known, values, 0.0), kernel)
    count = np.convolve(known.astype(np.float64), kernel)
    middle = slice(width // 2, width // 2 + len(values))
    return np.where(known, total[middle] / np.maximum(count[middle], 1.0), np.nan)


def wants_log(values: Numbers) -> bool:
    """Whether the values are positive and span more than two decades."""
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() > _LOG_FROM * known.min())


def _draw_loss(
    panel: Any, steps: Numbers, losses: Numbers, test_steps: Numbers, test_losses: Numbers
) -> None:
    width = max(1, len(steps) // 50) | 1
    if width > 1:
        panel.plot(steps, losses, color=_RAW, linewidth=0.9, label="batch")
        panel.plot(steps, smooth(losses, width), color=_TRAIN, linewidth=2.0, label="smoothed")
    elif len(steps):
        marker = "o" if len(steps) == 1 else ""
        panel.plot(steps, losses, color=_TRAIN, linewidth=1.6, marker=marker, label="batch")
    if len(test_steps):
        _draw_test(panel, test_steps, test_losses, "test set")
    if wants_log(losses):
        panel.set_yscale("log")
    if len(steps):
        panel.legend(frameon=False, fontsize=9, labelcolor=_INK)
    _dress(panel, "loss (mean over samples)")


def _draw_measure(panel: Any, name: str, steps: Numbers, values: Numbers) -> None:
    part, _, measure = name.partition("_")
    percent = measure == "accuracy"
    shown = values * 100 if percent else values
    _draw_test(panel, steps, shown, name)
    label = f"{'test' if part == 'test' else 'training'} {measure.replace('_', ' ')}"
    last = shown[np.isfinite(shown)][-1:]
    if len(last):
        text = f"{last[0]:.2f} %" if percent else f"{last[0]:.4g}"
        panel.set_title(text, loc="right", **_TITLE, color=_TEST)
    _dress(panel, f"{label} (%)" if percent else label)


def _draw_test(panel: Any, steps: Numbers, values: Numbers, label: str) -> None:
    marker = "o" if len(steps) <= _MOST_MARKERS else ""
    panel.plot(
        steps, values, color=_TEST, linewidth=1.6, marker=marker, markersize=4.5, label=label
    )


def _dress(panel: Any, y_label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_xlabel("step", color=_INK)
    panel.set_ylabel(y_label, color=_INK)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panel.grid(color=_FAINT, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=9, length=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#bbbbbb")


def _evaluations(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for record in records if any(key.startswith("test_") for key in record)]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
