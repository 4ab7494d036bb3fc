"""submit, status, logs and cancel with stand-ins for Slurm's commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpimlsys.launch.slurm.queue import State, parse, parse_time

ROOT = Path(__file__).parent.parent.parent
SHOWN = (
    "JobId=7 JobName=x UserId=a(1) Reason=None RunTime=00:01:02 TimeLimit=01:00:00 "
    "NodeList={nodes} JobState={state} ExitCode={code} Requeue=1"
)


@pytest.mark.parametrize(
    ("state", "code", "wanted"),
    [
        ("RUNNING", "0:0", State("RUNNING", "", "n[0-1]", "00:01:02", None)),
        ("COMPLETED", "0:0", State("COMPLETED", "", "n[0-1]", "00:01:02", 0)),
        ("FAILED", "2:0", State("FAILED", "", "n[0-1]", "00:01:02", 2)),
        ("CANCELLED", "0:15", State("CANCELLED", "", "n[0-1]", "00:01:02", 143)),
    ],
)
def test_what_scontrol_prints(state, code, wanted):
    assert parse(SHOWN.format(state=state, code=code, nodes="n[0-1]")) == wanted


def test_a_job_that_waits():
    text = "JobState=PENDING Reason=Resources NodeList=(null) RunTime=00:00:00 ExitCode=0:0"
    assert parse(text) == State("PENDING", "Resources", "", "00:00:00", None)
    assert parse("") == State("UNKNOWN", exit_status=0)


@pytest.fixture
def slurm(tmp_path):
    """Runs mpimlsys in a folder where sbatch, scontrol and scancel are small scripts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shown = SHOWN.format(state="COMPLETED", code="0:0", nodes="n0")
    programs = {
        "sbatch": 'echo "$@" >>calls; echo "7;test"',
        "scontrol": f'echo "$@" >>calls; echo "{shown}"',
        "scancel": 'echo "$@" >>calls',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    def run(*arguments, path=f"{folder}:/usr/bin:/bin"):
        return subprocess.run(
            [sys.executable, "-m", "mpimlsys", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.folder = folder
    return run


def test_from_submission_to_the_log(slurm, tmp_path):
    done = slurm("submit", ROOT / "examples/mnist_cnn.toml", "--nodes", "3", "--time", "00:10:00")
    assert done.returncode == 0, done.stderr
    assert "submitted job 7" in done.stdout
    kept = tmp_path / "runs/mnist-cnn/slurm"
    text = (kept / "job.sbatch").read_text()
    assert "#SBATCH --nodes=3\n" in text
    assert "#SBATCH --time=00:10:00\n" in text
    assert (tmp_path / "calls").read_text() == "--parsable runs/mnist-cnn/slurm/job.sbatch\n"

    run = tmp_path / "runs/mnist-cnn"
    (run / "metrics.jsonl").write_text('{"step": 5}\n{"step": 6}\n{"st')
    done = slurm("status", run, "--json")
    assert json.loads(done.stdout)["step"] == 6
    done = slurm("status", run)
    assert "job 7: completed, n0, 00:01:02, exit status 0" in done.stdout
    assert slurm("logs", run).returncode == 2
    (kept / "7.log").write_text("hello\n")
    assert slurm("logs", run).stdout == "hello\n"
    assert slurm("logs", "-f", run).stdout == "hello\n"
    assert "cancelled job 7" in slurm("cancel", run).stdout


def test_a_dry_run_prints_the_script_and_writes_nothing(slurm, tmp_path):
    done = slurm(
        "submit", ROOT / "examples/mnist_cnn.toml", "--dry-run", "--trace", "my trace.json"
    )
    assert done.stdout.startswith("#!/bin/bash\n#SBATCH --job-name=mnist-cnn\n")
    assert done.stdout.endswith("/slurm/job.toml --resume --trace 'my trace.json'\n")
    assert not (tmp_path / "runs").exists()


def test_mistakes_are_explained(slurm, tmp_path):
    done = slurm("status", tmp_path / "none")
    assert done.returncode == 2
    assert "was not submitted" in done.stderr
    done = slurm("submit", ROOT / "examples/mnist_cnn.toml", path=str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "there is no sbatch here" in done.stderr
    (slurm.folder / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n"
    )
    done = slurm("submit", ROOT / "examples/mnist_cnn.toml", "--partition", "x")
    assert done.returncode == 2
    assert "invalid partition specified: x" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("59", 59),
        ("1:05", 65),
        ("2:00:01", 7201),
        ("1-00:00:00", 86400),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_times_as_slurm_writes_them(text, seconds):
    assert parse_time(text) == seconds
