"""Markdown of what gpu_check.py found, beside the goals of docs/benchmarks.md. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# codec and operation -> share of the device's copy
GOALS = {
    **{(codec, "encode_feedback"): 0.75 for codec in ("fp16", "bf16", "int8", "sign")},
    ("top_k:0.01:sampled", "encode_feedback"): 0.4,
    **{(codec, "add_8"): 0.4 for codec in ("top_k:0.01", "top_k:0.01:sampled", "random_k:0.01")},
}
TOPK_GOAL = 10.0  # times as fast as torch.topk
TOPK_GOAL_OF = ("top_k:0.01:sampled", "encode_feedback")
SHARED_GOAL = 0.6  # of the device's copy
SHARED_GOAL_OF = ("auto", 64 << 20)
STAGED_GOAL = 0.8  # of the slower of a copy over PCIe and the host's all-reduce
STAGED_GOAL_OF = ("staged", 64 << 20)


def summary(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """All parts, then a table for each benchmark that printed its rows."""
    lines = ["# GPU check", ""]
    lines += table(
        ("part", "outcome", "seconds", "said"),
        ((one["name"], one["status"], f"{one['seconds']:.0f}", one["why"]) for one in outcomes),
    )
    for one in outcomes:
        if one["result"] is not None:
            lines += ["", f"## {one['name']}", "", *of_benchmark(one["result"])]
    return "\n".join(lines) + "\n"


def of_benchmark(result: Mapping[str, Any]) -> list[str]:
    """The rows of a benchmark's JSON, or why there is no table of them."""
    try:
        return codecs(result) if result["benchmark"] == "device codecs" else allreduce(result)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return [f"No table: {type(error).__name__}: {error}"]


def codecs(result: Mapping[str, Any]) -> list[str]:
    """One line for each codec and operation."""
    rows = result["rows"]
    repeats = max(row["repeats"] for row in rows)
    return [
        f"{result['device']}, float32, medians of {repeats} repetitions.",
        "",
        *table(
            (
                "codec",
                "operation",
                "MiB",
                "ms",
                "GB/s",
                "of the copy",
                "goal",
                "torch.topk",
                "goal",
            ),
            (
                (
                    row["codec"],
                    row["operation"],
                    f"{row['bytes'] / 2**20:g}",
                    row["wrong"] or milliseconds(row["median_s"]),
                    number(row["bytes_per_s"], 1e-9, "{:.0f}")
                    + number(row["copy_bytes_per_s"], 1e-9, " of {:.0f}"),
                    number(row["ratio_to_copy"], 1, "{:.1%}"),
                    goal(row, GOALS.get(key(row)), row["ratio_to_copy"], "{:.0%}"),
                    number(row["ratio_to_torch_topk"], 1, "{:.1f} x")
                    + number(row["torch_topk_s"], 1e3, " (of {:.3f} ms)"),
                    goal(
                        row,
                        TOPK_GOAL if key(row) == TOPK_GOAL_OF else None,
                        row["ratio_to_torch_topk"],
                        "{:.0f} x",
                    ),
                )
                for row in rows
            ),
        ),
    ]


def allreduce(result: Mapping[str, Any]) -> list[str]:
    """One line for each size and algorithm."""
    return [
        f"{result['ranks']} ranks on {result['nodes']} node(s), {result['ranks_of_a_gpu']} of them "
        f"on a GPU ({result['device']}).",
        "",
        *table(
            (
                "bytes",
                "algorithm",
                "ms",
                "in a row: ms",
                "copy: GB/s",
                "of the copy",
                "goal",
                "to, from host, on host: ms",
                "of these",
                "goal",
            ),
            (
                (
                    str(row["bytes"]),
                    row["algorithm"],
                    row["wrong"] or milliseconds(row["median_s"]),
                    milliseconds(row["in_a_row_s"]),
                    number(row["copy_bytes_per_s"], 1e-9, "{:.0f}"),
                    number(row["ratio_to_copy"], 1, "{:.0%}"),
                    goal(
                        row,
                        SHARED_GOAL if whose(row) == SHARED_GOAL_OF else None,
                        row["ratio_to_copy"],
                        "{:.0%}",
                    ),
                    ", ".join(
                        milliseconds(row[name]) for name in ("to_host_s", "from_host_s", "host_s")
                    ),
                    number(row["ratio_to_slower_of_host"], 1, "{:.0%}"),
                    goal(
                        row,
                        STAGED_GOAL if whose(row) == STAGED_GOAL_OF else None,
                        row["ratio_to_slower_of_host"],
                        "{:.0%}",
                    ),
                )
                for row in result["rows"]
            ),
        ),
    ]


def key(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a goal is of."""
    return row["codec"], row["operation"]


def whose(row: Mapping[str, Any]) -> tuple[str, int]:
    """What a goal of all-reduce is of."""
    return row["algorithm"], row["bytes"]


def milliseconds(seconds: float | None) -> str:
    return number(seconds, 1e3, "{:.3f}")


def number(value: float | None, factor: float, how: str) -> str:
    """In a unit; nothing where it was not measured."""
    return "" if value is None else how.format(value * factor)


def goal(row: Mapping[str, Any], wanted: float | None, found: float | None, how: str) -> str:
    """The goal, and whether a row meets it."""
    if wanted is None:
        return ""
    if row["wrong"]:
        return f"{how.format(wanted)}: wrong"
    if found is None:
        return f"{how.format(wanted)}: not measured"
    return f"{how.format(wanted)}: {'met' if found >= wanted else 'missed'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
