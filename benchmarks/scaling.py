"""Time of an all-reduce against ranks, in simulated networks, for docs/scaling.md.

Compiles tests/sim/scaling.cpp with the algorithms of csrc/comm, runs it, and writes what it says.
"""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "sim"))
from simulator import STUDY, build  # noqa: E402

PAGE = ROOT / "docs" / "scaling.md"
PLOT = ROOT / "docs" / "images" / "scaling.png"
NETWORKS = {"fat_tree": "Fat tree, 100 Gbit/s", "star": "Star, 1 Gbit/s"}
ALGORITHMS = {"ring": "ring", "halving": "halving-doubling", "hierarchical": "hierarchical"}
COLOURS = {"ring": "#1f5fa8", "halving": "#d1662b", "hierarchical": "#3a8a4d"}
BEGIN, END = "<!-- written by make scaling -->", "<!-- end -->"
TIMEOUT_S = 170


@dataclass(frozen=True)
class Case:
    """One simulated all-reduce; times in seconds."""

    nbytes: int
    ranks: int
    algorithm: str
    time_s: float
    bound_s: float


def study(program: Path, network: str, most_ranks: int = 1024) -> list[Case]:
    """All cases of a network, smaller arrays first, then fewer ranks.

    Raises:
        CalledProcessError: a cost is not the predicted one.
    """
    done = subprocess.run(
        [program, network, str(most_ranks)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return [_case(line) for line in done.stdout.splitlines()]


def _case(line: str) -> Case:
    nbytes, ranks, algorithm, time_s, bound_s = line.split()
    return Case(int(nbytes), int(ranks), algorithm, float(time_s), float(bound_s))


def table(cases: Sequence[Case]) -> list[str]:
    """Lines of Markdown: a row per number of ranks, for every size the algorithms and the bound."""
    sizes = sorted({case.nbytes for case in cases})
    titles = [f"{_mebibytes(size)}: {name}" for size in sizes for name in _columns()]
    lines = [f"| ranks | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for ranks in sorted({case.ranks for case in cases}):
        cells = []
        for size in sizes:
            own = [case for case in cases if (case.ranks, case.nbytes) == (ranks, size)]
            times = {case.algorithm: case.time_s for case in own}
            cells += [duration(times[name]) for name in ALGORITHMS] + [duration(own[0].bound_s)]
        lines.append(f"| {ranks} | {' | '.join(cells)} |")
    return lines


def _columns() -> list[str]:
    return [*ALGORITHMS.values(), "bound"]


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    factor, unit = (1e6, "µs") if seconds < 1e-3 else (1e3, "ms") if seconds < 1 else (1, "s")
    return f"{seconds * factor:#.3g}".rstrip(".") + f" {unit}"


def _label(seconds: float, _position: int) -> str:
    return duration(seconds) if seconds else "0"


def _mebibytes(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB"


def replaced(page: str, lines: Sequence[str]) -> str:
    """The page with these lines between its two marks."""
    before, rest = page.split(BEGIN)
    return "\n".join([before + BEGIN, "", *lines, "", END + rest.split(END)[1]])


def draw(results: dict[str, list[Case]], path: Path) -> None:
    """A panel per size and network."""
    sizes = sorted({case.nbytes for cases in results.values() for case in cases})
    figure = Figure(figsize=(10, 7.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # the figure keeps it
    panels = figure.subplots(len(sizes), len(results), sharex=True, squeeze=False)
    for row, size in enumerate(sizes):
        for column, (network, cases) in enumerate(results.items()):
            axes = panels[row][column]
            own = [case for case in cases if case.nbytes == size]
            for name, label in ALGORITHMS.items():
                points = [(case.ranks, case.time_s) for case in own if case.algorithm == name]
                axes.plot(*zip(*points, strict=True), "o-", ms=4, color=COLOURS[name], label=label)
            bounds = sorted({(case.ranks, case.bound_s) for case in own})
            axes.plot(*zip(*bounds, strict=True), "k--", lw=1, label="bound")
            ranks = [point[0] for point in bounds]
            axes.set(xscale="log", ylim=0, title=f"{NETWORKS[network]}, {_mebibytes(size)}")
            axes.set_xticks(ranks, [str(rank) for rank in ranks])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(_label)
            axes.grid(alpha=0.25)
    for axes in panels[-1]:
        axes.set_xlabel("ranks, 8 per node")
    for axes in panels[:, 0]:
        axes.set_ylabel("simulated time")
    panels[0][0].legend()
    figure.savefig(path)


def main() -> None:
    with TemporaryDirectory() as folder:
        program = build({"scaling": STUDY}, ["-O2"], Path(folder))["scaling"]
        with ThreadPoolExecutor() as pool:
            cases = pool.map(lambda network: study(program, network), NETWORKS)
            results = dict(zip(NETWORKS, cases, strict=True))
    lines = []
    for network, own in results.items():
        lines += [f"**{NETWORKS[network]}**", "", *table(own), ""]
    PAGE.write_text(replaced(PAGE.read_text(), lines[:-1]))
    draw(results, PLOT)
    print("\n".join(lines))
    print(f"written: {PAGE.relative_to(ROOT)}, {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
