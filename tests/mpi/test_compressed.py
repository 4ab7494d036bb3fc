"""Training with compressed gradients over real ranks."""

import json
import shutil

import numpy as np
import pytest

from mpimlsys.train import checkpoint

JOB = """
[job]
epochs = 1
max_steps = 8
[data]
source = "mnist"
batch_size = 24
[model]
name = "mlp"
hidden = [32]
[optimizer]
name = "sgd"
lr = 0.05
[checkpoint]
every = "4 steps"
[comm]
timeout_s = 60.0
"""


@pytest.fixture
def train(train_job):
    return train_job(JOB)


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").open()]


def parameters(out):
    tensors = checkpoint.newest(out / "checkpoints", print).tensors
    return {name: v for name, v in tensors.items() if name.startswith("parameter.")}


SETTINGS = {
    "top_k with feedback": ("exchange.compress=top_k:0.05+int8",),
    "ef21 of both legs": ("exchange.compress=int4", "exchange.error_feedback=ef21"),
    "momentum correction": ("exchange.compress=top_k:0.05", "exchange.compress_momentum=0.9"),
    "low rank": ("exchange.compress=power_sgd:2",),
    "1-bit Adam": ("optimizer.name=onebit_adam", "optimizer.freeze_steps=2"),
    "0/1 Adam": ("optimizer.name=zero_one_adam", "optimizer.lr=0.001"),
}


@pytest.mark.one_mpi
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(train, setting):
    keys = SETTINGS[setting]
    done, out = train("run", *keys)
    assert done.returncode == 0, done.stdout + done.stderr
    seen, before = losses(out), parameters(out)
    shutil.rmtree(checkpoint.path_of(out / "checkpoints", 8))
    done, out = train("run", *keys, resume=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after step 4" in done.stdout
    assert losses(out) == seen
    after = parameters(out)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_another_number_of_ranks_goes_on(train):
    keys = SETTINGS["top_k with feedback"]
    train("run", *keys, "job.max_steps=4")
    done, out = train("run", *keys, ranks=2, resume=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.isfinite(losses(out)).all()


def test_residuals_of_another_feedback_are_refused(train):
    train("run", "exchange.compress=int4", "job.max_steps=4")
    keys = ("exchange.compress=int4", "exchange.error_feedback=ef21")
    done, _ = train("run", *keys, resume=True)
    assert done.returncode == 2
    assert "written with error_feedback = 'classic'" in done.stderr


@pytest.mark.one_mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_is_not_compressed_has_the_same_momentum(train, ranks):
    """One rank compresses nothing, and neither do two with a mask that leaves all out."""
    moved = ("exchange.compress=top_k:0.05", "exchange.compress_momentum=0.9")
    _, ours = train("moved", *moved, "exchange.compress_min_elements=1000000", ranks=ranks)
    _, usual = train("usual", "optimizer.momentum=0.9", ranks=ranks)
    np.testing.assert_allclose(losses(ours), losses(usual), rtol=1e-5)


def test_bytes_are_counted_and_fewer(train):
    done, out = train("run", "exchange.compress=int8")
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    result = json.loads((out / "result.json").read_text())
    dense = 8 * 2 / 3 * result["parameters"]
    assert all(0.2 < record["sent_bytes"] / dense < 0.3 for record in records)


def test_auto_stays_dense_where_nothing_is_gained_and_says_why(train):
    done, _ = train("run", "exchange.compress=auto", "job.max_steps=14", "model.hidden=[4]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("compress = auto: ") >= 1


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("exchange.compress=fp61",), "[exchange] compress = 'fp61': unknown codec"),
        (("exchange.compress=int8", "job.dtype=float64"), "must be float32, not float64"),
        (
            ("exchange.compress=int8", "optimizer.name=onebit_adam"),
            "compresses its momentum by itself",
        ),
        (("exchange.compress=int8", "exchange.compress_ramp_steps=3"), "needs top_k or random_k"),
    ],
)
def test_mistakes_are_one_clear_error(train, keys, told):
    done, _ = train("run", *keys, ranks=2)
    assert done.returncode != 0
    assert done.stderr.count("mpimlsys: error:") == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.one_mpi
def test_the_bench_of_the_exchange_has_a_row_for_each_codec(mpirun):
    options = ["--codecs", "fp16,top_k:0.1,power_sgd:2", "--sizes", "16KiB", "--json"]
    done = mpirun(3, ["-m", "mpimlsys", "bench", "exchange", *options])
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["codec"] for row in rows] == ["none", "fp16", "top_k:0.1", "power_sgd:2"]
    assert all(row["bytes"] == 16384 and row["ranks"] == 3 for row in rows)
    assert rows[0]["error"] < 1e-12
    assert all(row["sent_bytes"] < rows[0]["sent_bytes"] for row in rows[1:])


@pytest.mark.one_mpi
def test_a_plan_says_what_cannot_be_compressed(write_job, mpirun):
    path = write_job(JOB)
    for key, told in (
        ("job.dtype=float64", "float32"),
        ("optimizer.name=onebit_adam", "by itself"),
    ):
        done = mpirun(2, ["-m", "mpimlsys", "plan", path, "--set", key])
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.one_mpi
def test_a_plan_predicts_every_candidate(write_job, mpirun, tmp_path):
    path = write_job(JOB)
    done = mpirun(2, ["-m", "mpimlsys", "plan", path, "--json"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["predictions"][0]["codec"] == "none"
    assert {row["ranks"] for row in result["other_ranks"]} == {2, 4, 8, 16, 32, 64}
    assert not (tmp_path / "runs").exists()
