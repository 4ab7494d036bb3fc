"""Builds, checks and times the code for GPUs on a machine with one, in under 8 minutes.

    python benchmarks/gpu_check.py --out FOLDER

Every part is a process with a deadline of its own, and its outcome is written as soon as it ends,
so that no part costs the others theirs: ``summary.md`` with tables, ``summary.json``, what each
part printed, and all of these in ``results.tar.gz``. Exit status 1 when a part failed, 0
otherwise; a part whose program is not there is skipped. gpu_parts.py says what runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpu_parts
import gpu_tables
from gpu_parts import Part

LIMIT_S = 460.0
GRACE_S = 10.0  # for a launcher to end its ranks
PACKED = "results.tar.gz"


@dataclass(frozen=True)
class Outcome:
    """How a part went (``ok``, ``failed``, ``too slow``, ``skipped``), and what it said last."""

    name: str
    status: str
    seconds: float
    why: str = ""
    result: dict[str, Any] | None = None


def attempt(part: Part, folder: Path, left_s: float) -> Outcome:
    """Run a part; whatever goes wrong is this part's failure."""
    started = time.monotonic()
    try:
        return carry_out(part, folder, left_s)
    except Exception as error:  # noqa: BLE001 the other parts are still to be run
        seconds = time.monotonic() - started
        return Outcome(part.name, "failed", seconds, f"{type(error).__name__}: {error}")


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
            cwd=gpu_parts.ROOT,
            env={**gpu_parts.environment(), **dict(part.additions)},
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
    printed = out.read_text(errors="replace")
    result = result_of(printed)
    if status is None:
        return Outcome(part.name, "too slow", seconds, f"ended after {seconds:.0f} s", result)
    if status:
        why = wrong(result) or reason(err.read_text(errors="replace")) or reason(printed)
        return Outcome(part.name, "failed", seconds, f"exit status {status}: {why}", result)
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
    """The JSON object of a benchmark, its last line but for what a launcher says."""
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:  # it was ended in the middle of the line
                return None
    return None


def wrong(result: dict[str, Any] | None) -> str:
    """What a benchmark found to be wrong."""
    mistakes = [row["wrong"] for row in (result or {}).get("rows", []) if row.get("wrong")]
    return f"{len(mistakes)} rows are wrong: {mistakes[0]}" if mistakes else ""


def write(outcomes: Sequence[Outcome], folder: Path) -> None:
    """The summaries of all parts so far, and everything in one file."""
    told = [asdict(outcome) for outcome in outcomes]
    (folder / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
    (folder / "summary.md").write_text(gpu_tables.summary(told))
    pack(folder)


def pack(folder: Path) -> None:
    """Make the one file anew; what was there stays until that is done."""
    unfinished = folder / f"{PACKED}.part"
    with tarfile.open(unfinished, "w:gz") as packed:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith(PACKED):
                packed.add(path, f"results/{path.name}")
    unfinished.replace(folder / PACKED)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    deadline = time.monotonic() + LIMIT_S
    outcomes: list[Outcome] = []

    def run(stages: Sequence[Sequence[Part]]) -> None:
        for parts in stages:
            left_s = deadline - time.monotonic()
            with ThreadPoolExecutor(len(parts)) as pool:
                started = [pool.submit(attempt, part, folder, left_s) for part in parts]
                for one in as_completed(started):
                    outcomes.append(one.result())
                    told(outcomes, folder)

    if not gpu_parts.is_built():
        run(gpu_parts.building())
    run(gpu_parts.checking())
    return 0 if all(one.status in ("ok", "skipped") for one in outcomes) else 1


def told(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Print the last outcome and write all; parts go on when that fails, as on a full disk."""
    last = outcomes[-1]
    print(f"{last.name}: {last.status}, {last.seconds:.0f} s. {last.why}", flush=True)
    try:
        write(outcomes, folder)
    except Exception as error:  # noqa: BLE001 the other parts are still to be run
        print(f"not written: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
