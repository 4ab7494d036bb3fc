"""Jobs whose model has rows at parameter servers."""

import csv
import json

import numpy as np
import pytest

JOB = """
[job]
epochs = 3
[data]
source = "{source}"
batch_size = 60
[model]
name = "{name}"
rows_lr = 0.1
[optimizer]
name = "sgd"
lr = 0.05
[exchange]
kind = "ps"
[cluster]
servers = 1
[checkpoint]
every = "end"
[comm]
timeout_s = 60.0
"""


@pytest.fixture
def ratings(tmp_path):
    """Ratings that follow from two factors, and whether they are high."""
    random = np.random.default_rng(0)
    users, items = random.normal(size=(40, 2)), random.normal(size=(30, 2))
    path = tmp_path / "ratings.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "rating", "high"])
        for _ in range(900):
            user, item = random.integers(40), random.integers(30)
            rating = 3 + float(users[user] @ items[item])
            rows.writerow([user * 7, item * 3, round(rating, 3), int(rating > 3)])
    return path


def result(out):
    return json.loads((out / "result.json").read_text())


def test_matrix_factorization_is_the_same_with_more_workers_and_goes_on(
    train_job, ratings, mpirun, tmp_path
):
    train = train_job(JOB.format(source=ratings, name="matrix_factorization"))
    keys = ('data.columns=["user","item"]', "data.target=rating", "model.factors=4", "model.l2=0")
    keys = (*keys, "model.rows_lr=0.4")
    more = ("job.epochs=12", *keys)
    done, alone = train("alone", *more, ranks=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 parameters and 350 in rows at servers" in done.stdout
    done, out = train("run", *keys, ranks=4)
    assert done.returncode == 0, done.stdout + done.stderr
    done, out = train("run", *more, "cluster.servers=2", ranks=5, resume=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(out)["test_mse"] == pytest.approx(result(alone)["test_mse"], rel=1e-4)
    assert result(out)["test_mse"] < 0.05  # always the mean: about 2
    done = mpirun(1, ["-m", "mpimlsys", "evaluate", out, "--json"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["mse"] == pytest.approx(result(out)["test_mse"], rel=1e-5)
    inputs = tmp_path / "new.csv"
    inputs.write_text("user,item\n7,3\n99999,3\n")
    done = mpirun(1, ["-m", "mpimlsys", "predict", out, "--input", inputs])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3
    for other, told in (
        ("model.factors=5", "does not hold 70 rows of 7 numbers for 'factors'"),
        ('data.columns=["item","user"]', "the data have other features than the checkpoint's"),
    ):
        done, _ = train("run", *more, other, ranks=3, resume=True)
        assert done.returncode == 2
        assert told in done.stderr


@pytest.mark.one_mpi
def test_wide_and_deep_learns_categories(train_job, ratings):
    train = train_job(JOB.format(source=ratings, name="wide_and_deep"))
    keys = ('data.columns=["user","item"]', "data.target=high", "model.embedding=4")
    more = ("model.l1=0.1", "model.hidden=[16]", "job.epochs=15", "optimizer.name=adam")
    done, out = train("run", *keys, *more, "optimizer.lr=0.02", ranks=3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(out)["test_accuracy"] > 0.7


@pytest.mark.one_mpi
def test_sparse_logistic_finds_the_features_that_tell_something(train_job, tmp_path):
    random = np.random.default_rng(1)
    path = tmp_path / "samples.libsvm"
    with path.open("w") as file:
        for _ in range(1500):
            telling, idle = random.choice(30, 3, replace=False), 30 + random.choice(270, 5)
            chosen = np.unique(np.concatenate([telling, idle]))
            margin = np.sum(np.where(chosen < 30, 2.0 * (-1.0) ** chosen, 0))
            label = 1 if random.random() < 1 / (1 + np.exp(-margin)) else -1
            file.write(f"{label} " + " ".join(f"{i + 1}:1" for i in chosen) + "\n")
    train = train_job(JOB.format(source=path, name="sparse_logistic"))
    rates = ("model.rows_lr=0.3", "optimizer.schedule=cosine")  # not of FTRL's alpha
    done, out = train("run", "job.epochs=2", "model.l1=8", *rates, ranks=3)
    assert done.returncode == 0, done.stdout + done.stderr
    from mpimlsys.train import checkpoint

    kept = checkpoint.newest(out / "checkpoints", pytest.fail)
    rows = np.concatenate([kept.tensors[f"exchange.{rank}.weights.rows"] for rank in (0, 1)])
    values = np.concatenate([kept.tensors[f"exchange.{rank}.weights.values"] for rank in (0, 1)])
    weights = np.zeros(300)
    weights[rows] = values[:, 0]
    assert np.mean(weights[30:] == 0) > 0.9
    assert (np.sign(weights[:30]) == (-1.0) ** np.arange(30)).all()
    assert np.abs(weights[:30]).mean() > 0.2


@pytest.mark.one_mpi
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("exchange.kind=allreduce", "cluster.servers=0"), "has rows at parameter servers"),
        (("model.hidden=[3]",), "model.hidden does not apply to the model 'matrix_factorization'"),
        (('data.columns=["user"]',), "needs two columns beside the target"),
    ],
)
def test_mistakes_are_one_clear_error(train_job, ratings, keys, told):
    train = train_job(JOB.format(source=ratings, name="matrix_factorization"))
    done, _ = train("run", "data.target=rating", 'data.columns=["user","item"]', *keys)
    assert done.returncode != 0
    assert done.stderr.count("mpimlsys: error") == 1, done.stderr
    assert told in done.stderr
