"""Builds, checks and times the code for GPUs on a machine with one, in under 8 minutes.

    python benchmarks/gpu_check.py --out FOLDER

Every part is a process with a deadline of its own, and its outcome is written as soon as it ends,
so that no part costs the others theirs: ``summary.md`` with tables, ``summary.json``, and what each
part printed. Exit status 1 when a part failed, 0 otherwise; a part whose program is not there is
skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_tables

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 460.0
GRACE_S = 10.0  # for a launcher to end its ranks
LAWS = str(ROOT / "benchmarks" / "gpu_laws.py")
COLLECTIVES = str(ROOT / "benchmarks" / "gpu_collectives.py")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
RANKS = (2, 4)


@dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
        name: of the part; its files begin with it.
        command: what to run; empty when that is not there, for the reason ``missing``.
        limit_s: seconds until it is ended.
        additions: to the environment.
    """

    name: str
    command: Sequence[str]
    limit_s: float
    additions: tuple[tuple[str, str], ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a part went (``ok``, ``failed``, ``too slow``, ``skipped``), and what it said last."""

    name: str
    status: str
    seconds: float
    why: str = ""
    result: dict[str, Any] | None = None


def python() -> str:
    """The interpreter that has the package: this one, else that of ``make install``."""
    own = ROOT / ".venv" / "bin" / "python"
    return sys.executable if find_spec("mpimlsys") or not own.exists() else str(own)


def is_built() -> bool:
    """Whether the extension for GPUs is there."""
    return any((ROOT / "mpimlsys").glob("_native_cuda*.so"))


def parts() -> list[Part]:
    """What to run once the extension is there."""
    run, package = python(), [python(), "-m", "mpimlsys"]
    found = [
        Part("doctor", [*package, "doctor"], 120),
        Part("laws", [run, LAWS], 120),
        Part("codecs", [*package, "bench", "codecs", "--device", "cuda", "--json"], 150),
    ]
    beside = Path(run).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun") or ""
    root = tuple((f"OMPI_ALLOW_RUN_AS_ROOT{end}", "1") for end in ("", "_CONFIRM"))

    def with_ranks(name: str, ranks: int, command: Sequence[str]) -> Part:
        start = [mpirun, "--oversubscribe", "-n", str(ranks), *command] if mpirun else []
        return Part(name, start, 60, root, missing="there is no mpirun")

    found.append(with_ranks("collectives", 2, [run, COLLECTIVES]))
    for ranks in RANKS:
        command = [*package, "bench", "allreduce", "--device", "cuda", "--json"]
        found.append(with_ranks(f"allreduce-{ranks}", ranks, command))
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "/usr/local/cuda/bin/compute-sanitizer"
    )
    for tool in TOOLS:
        found.append(
            Part(
                tool,
                [sanitizer, "--tool", tool, "--error-exitcode", "86", run, LAWS, "--reduced"]
                if sanitizer
                else [],
                90,
                missing="there is no compute-sanitizer",
            )
        )
    return found


def carry_out(part: Part, folder: Path, left_s: float) -> Outcome:
    """Run a part and keep what it printed."""
    if not part.command:
        return Outcome(part.name, "skipped", 0, part.missing)
    if left_s < 1:
        return Outcome(part.name, "skipped", 0, "no time was left")
    started = time.monotonic()
    out, err = folder / f"{part.name}.out", folder / f"{part.name}.err"
    with out.open("w") as standard, err.open("w") as errors:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env={**os.environ, **dict(part.additions)},
            stdin=subprocess.DEVNULL,
            stdout=standard,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(min(part.limit_s, left_s))
        except subprocess.TimeoutExpired:
            status = None
            end(process)
    seconds = time.monotonic() - started
    if status is None:
        return Outcome(part.name, "too slow", seconds, f"ended after {seconds:.0f} s")
    printed = out.read_text(errors="replace")
    if status:
        why = reason(err.read_text(errors="replace")) or reason(printed)
        return Outcome(part.name, "failed", seconds, f"exit status {status}: {why}")
    result = result_of(printed)
    return Outcome(part.name, "ok", seconds, "" if result else reason(printed), result)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children; a launcher first gets the time to end its ranks."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def reason(text: str) -> str:
    """The line that names an error, as launchers say more after it; else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" -")]
    errors = [line for line in lines if re.search(r"mpimlsys: error|\w+Error\b", line)]
    return (errors or lines[-1:] or [""])[0]


def result_of(printed: str) -> dict[str, Any] | None:
    """The JSON object of a benchmark, which is its last line."""
    line = (printed.splitlines() or [""])[-1]
    return json.loads(line) if line.startswith("{") else None


def write(outcomes: Sequence[Outcome], folder: Path) -> None:
    """The summaries, of all parts so far."""
    told = [asdict(outcome) for outcome in outcomes]
    (folder / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
    (folder / "summary.md").write_text(gpu_tables.summary(told))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    deadline = time.monotonic() + LIMIT_S
    outcomes: list[Outcome] = []

    def run(part: Part) -> None:
        outcomes.append(carry_out(part, folder, deadline - time.monotonic()))
        last = outcomes[-1]
        print(f"{last.name}: {last.status}, {last.seconds:.0f} s. {last.why}", flush=True)
        write(outcomes, folder)

    if not is_built():
        run(Part("build", ["make", "install"], 240, (("MPIMLSYS_CUDA", "1"),)))
    for part in parts():
        run(part)
    return 0 if all(one.status in ("ok", "skipped") for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
