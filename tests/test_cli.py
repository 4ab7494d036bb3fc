"""The commands as a user types them, in one process."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpimlsys import data

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "train", "launch", "evaluate", "predict", "submit", "status", "logs", "cancel",
    "plan", "doctor", "bench",
)  # fmt: skip


def run(*arguments, cwd=None, timeout=100):
    return subprocess.run(
        [sys.executable, "-m", "mpimlsys", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"mpimlsys {command}" in done.stdout.partition("example:")[2] or command == "train"
    assert "example:" in done.stdout


def test_help_names_all_commands():
    done = run("--help")
    assert all(f"\n    {command} " in done.stdout for command in COMMANDS)
    assert run("--version").stdout.startswith("mpimlsys ")


def test_usage_errors_end_with_2_and_only_rank_0_speaks():
    assert run("train").returncode == 2
    assert run("trian", "x").returncode == 2
    quiet = subprocess.run(
        [sys.executable, "-m", "mpimlsys", "train"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    )
    assert (quiet.returncode, quiet.stderr) == (2, "")


@pytest.mark.mpi
def test_a_launcher_of_another_mpi_is_told():
    """As srun with the wrong --mpi: every process believes to be alone."""
    for rank in (0, 1):
        done = subprocess.run(
            [sys.executable, "-c", "import mpimlsys; mpimlsys.init()"],
            capture_output=True,
            text=True,
            timeout=60,
            env={
                **os.environ,
                "SLURM_STEP_ID": "0",
                "SLURM_PROCID": str(rank),
                "SLURM_NTASKS": "2",
            },
        )
        assert done.returncode == 1
        assert "srun started 2 processes, but MPI sees a world of one" in done.stderr


def test_a_dry_run_prints_the_job_and_where_each_value_came_from():
    done = run("train", ROOT / "examples/mnist_cnn.toml", "--set", "optimizer.lr=0.2", "--dry-run")
    assert done.returncode == 0
    lines = {line.split(" = ")[0]: line for line in done.stdout.splitlines() if " = " in line}
    assert lines["lr"].endswith("# --set")
    assert lines["lr"].startswith("lr = 0.2 ")
    assert "mnist_cnn.toml:" in lines["momentum"]
    assert lines["accumulate"].endswith("# default")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network on a few digits."""
    folder = tmp_path_factory.mktemp("cli")
    done = run(
        "train", ROOT / "examples/mnist_cnn.toml",
        "--set", "job.max_steps=40", "--set", f"job.out={folder / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_run_leaves_what_the_documentation_says(trained):
    for name in ("job.toml", "metrics.jsonl", "result.json", "curves.png", "checkpoints"):
        assert (trained / name).exists()
    assert list((trained / "tensorboard").glob("events.out.tfevents.*"))
    result = json.loads((trained / "result.json").read_text())
    assert result["steps"] == 40
    assert result["world_size"] == 1
    assert result["samples_per_s"] > 0
    assert 0.3 < result["test_accuracy"] <= 1
    record = json.loads((trained / "metrics.jsonl").read_text().splitlines()[0])
    parts = ("data_s", "forward_s", "backward_s", "exchange_s", "optimizer_s")
    assert {"step", "epoch", "loss", "samples", "time_s", *parts} <= record.keys()
    assert 0 < sum(record[part] for part in parts) <= record["time_s"]


def test_evaluate_gives_the_accuracy_of_the_result(trained):
    done = run("evaluate", trained, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads((trained / "result.json").read_text())
    assert json.loads(done.stdout)["accuracy"] == result["test_accuracy"]


def digits():
    images, labels = data.load("mnist").test.batch(np.arange(30))
    return (images * 255).round().astype(np.uint8), labels


def write(path, images):
    pixels = images.reshape(len(images), -1)
    if path.name.startswith("csv"):
        text = "\n".join(",".join(map(str, row)) for row in pixels) + "\n"
        content = text.encode()
    elif path.name.startswith("npy"):
        np.save(path, images)
        content = path.read_bytes()
    elif path.name.startswith("npz"):
        np.savez(path, x=images)
        content = path.read_bytes()
    else:
        shape = np.array([len(images), 28, 28], ">u4").tobytes()
        content = b"\0\0\x08\x03" + shape + images.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("name", ["csv.csv", "npy.npy", "npz.npz", "idx", "idx.gz", "csv.csv.gz"])
def test_predict_reads_every_format(trained, tmp_path, name):
    images, labels = digits()
    source = tmp_path / name
    write(source, images)
    done = run("predict", trained, "--input", source)
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header == "prediction,probability"
    found = np.array([int(row.split(",")[0]) for row in rows])
    assert len(found) == 30
    assert (found == labels).mean() > 0.3


def test_predictions_over_ranks_equal_those_of_one(trained, tmp_path, mpirun):
    images, _ = digits()
    source = tmp_path / "digits.npy"
    np.save(source, images[:7])
    outputs = [tmp_path / "one.npz", tmp_path / "three.npz"]
    for ranks, output in zip((1, 3), outputs, strict=True):
        arguments = ["predict", trained, "--input", source, "--output", output]
        done = mpirun(ranks, ["-m", "mpimlsys", *arguments])
        assert done.returncode == 0, done.stderr
        assert "7 predictions in" in done.stdout
    one, three = (np.load(output) for output in outputs)
    np.testing.assert_array_equal(one["prediction"], three["prediction"])
    np.testing.assert_allclose(one["scores"], three["scores"], rtol=1e-4, atol=1e-5)


def test_predict_explains_what_does_not_fit(trained, tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((3, 5)))
    done = run("predict", trained, "--input", tmp_path / "small.npy")
    assert done.returncode == 2
    assert "samples of shape (5,), the model was trained on (1, 28, 28)" in done.stderr
    done = run("predict", trained, "--input", tmp_path / "small.npy", "--output", "x.pdf")
    assert "end it in .csv, .npy or .npz" in done.stderr
    done = run("evaluate", trained.parent / "rum")
    assert done.returncode == 2
    assert "Did you mean 'run'?" in done.stderr


def test_bench_checkpoint_leaves_nothing(tmp_path):
    options = ["--megabytes", "4", "--seconds", "1", "--repeats", "2", "--json"]
    done = run("bench", "checkpoint", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["state_bytes"] > 3 * 0.9 * 4e6
    assert result["written_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_bench_train_measures_and_says_so_without_torch():
    done = run("bench", "train", "--batch", "8", "--repeats", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for part in ("forward_backward", "step"):
        assert result["parts"][part]["mpimlsys"]["images_per_s"] > 0
        assert ("ratio" in result["parts"][part]) != ("note" in result)
