"""Parameter servers over real ranks: training, checkpoints, mistakes, and the interface."""

import json

import numpy as np
import pytest

JOB = """
[job]
epochs = 1
max_steps = 8
[data]
source = "mnist"
batch_size = 48
[model]
name = "mlp"
hidden = [32]
[optimizer]
name = "sgd"
lr = 0.05
[exchange]
bucket_bytes = 20_000
[checkpoint]
every = "4 steps"
[comm]
timeout_s = 60.0
"""
SERVED = ("exchange.kind=ps", "cluster.servers=1")


@pytest.fixture
def train(train_job):
    return train_job(JOB)


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").open()]


OPTIMIZERS = {
    "sgd": ("optimizer.weight_decay=0.01",),
    "nesterov": ("optimizer.name=nesterov", "optimizer.momentum=0.8"),
    "adamw": ("optimizer.name=adamw", "optimizer.lr=0.002"),
}


@pytest.mark.one_mpi
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bsp_is_what_all_reduce_does_and_goes_on_with_other_servers(train, optimizer):
    keys = OPTIMIZERS[optimizer]
    done, usual = train("usual", *keys, ranks=2)
    assert done.returncode == 0, done.stdout + done.stderr
    done, out = train(
        "served", *keys, "exchange.kind=ps", "cluster.servers=2", "job.max_steps=4", ranks=4
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done, out = train("served", *keys, *SERVED, resume=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after step 4" in done.stdout
    np.testing.assert_allclose(losses(out), losses(usual), rtol=1e-6)


@pytest.mark.one_mpi
@pytest.mark.parametrize("codec", ["int8", "top_k:0.05"])
def test_compressed_pushes_and_pulls_train_and_resume_bit_for_bit(train, codec):
    served = ("exchange.kind=ps", "cluster.servers=2", "optimizer.name=momentum")
    keys = (*served, f"exchange.compress={codec}", "exchange.compress_warmup_steps=2")
    usual, compressed = {}, {}
    for kept, name, options in ((usual, "usual", served), (compressed, "run", keys)):
        done, out = train(name, *options, ranks=4)
        assert done.returncode == 0, done.stdout + done.stderr
        kept["losses"] = losses(out)
        kept["bytes"] = [json.loads(line)["sent_bytes"] for line in (out / "metrics.jsonl").open()]
    np.testing.assert_allclose(compressed["losses"], usual["losses"], rtol=0.15)
    assert compressed["losses"][2:] != usual["losses"][2:]
    assert compressed["bytes"][:2] == usual["bytes"][:2]
    assert max(compressed["bytes"][2:]) < 0.3 * usual["bytes"][0]
    done, out = train("again", *keys, "job.max_steps=4", ranks=4)
    assert done.returncode == 0, done.stdout + done.stderr
    done, out = train("again", *keys, ranks=4, resume=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(out) == compressed["losses"]
    done, out = train("again", *served, ranks=4, resume=True)
    assert done.returncode == 2
    assert "holds exchange state (feedback, nodes, steps)" in done.stderr


@pytest.mark.parametrize("consistency", ["ssp:2", "asp"])
def test_workers_that_need_not_wait_for_each_other_learn_too(train, consistency):
    keys = (*SERVED, f"exchange.consistency={consistency}", "job.max_steps=25", "optimizer.lr=0.1")
    done, out = train("run", *keys, ranks=4)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 workers and 1 server on 1 node" in done.stdout
    assert "mpimlsys launch -n 4 " in done.stdout  # what to try next, with as many ranks
    records = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    assert len(records) == 25
    if consistency == "ssp:2":
        counts = np.array([record["staleness"] for record in records])
        assert (counts[:, :3].sum(axis=1) > 0).all()
        assert not counts[:, 3:].any()
    assert json.loads((out / "result.json").read_text())["test_accuracy"] > 0.25
    assert (out / "checkpoints" / "step-0000000025").is_dir()


@pytest.mark.one_mpi
def test_servers_end_when_the_workers_cannot_go_on(train):
    done, _ = train("run", *SERVED, "job.max_steps=4")
    assert done.returncode == 0, done.stdout + done.stderr
    done, _ = train("run", *SERVED, "data.batch_size=24", resume=True)
    assert done.returncode == 2
    assert "cannot resume: the checkpoint was written with batch_size = 48" in done.stderr


@pytest.mark.one_mpi
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("cluster.servers=1",), "set exchange.kind = 'ps'"),
        (("exchange.kind=ps",), "set cluster.servers to 1 or more"),
        ((*SERVED, "exchange.consistency=sspx"), "or, to let workers be up to 3 steps ahead"),
        ((*SERVED, "optimizer.name=lamb"), "parameter servers do not know lamb"),
        ((*SERVED, "optimizer.clip_norm=1"), "needs all gradients in one place"),
        ((*SERVED, "job.dtype=float64"), "parameter servers hold float32"),
        ((*SERVED, "exchange.compress=auto"), "with parameter servers name a codec"),
        ((*SERVED, "exchange.compress=power_sgd:2"), "needs all-reduce; servers take every other"),
        (
            (*SERVED, "exchange.compress=int8", "exchange.compress_min_elements=9"),
            "exchange.compress_min_elements needs exchange.kind = 'allreduce'",
        ),
        ((*SERVED, "data.source=nowhere"), "no such file or folder"),
    ],
)
def test_mistakes_are_one_clear_error_and_end_the_servers_too(train, keys, told):
    done, _ = train("run", *keys)
    assert done.returncode != 0
    assert done.stderr.count("mpimlsys: error") == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


SCRIPT = """
import numpy as np
import mpimlsys as mls
from mpimlsys.errors import ConfigError

ctx = mls.init(mls.ClusterSection(servers=2), mls.CommSection(timeout_s=30))
tables = [
    mls.ps.Table("w", count=1000, rule="momentum", numbers={"momentum": 0.5}),
    mls.ps.Table("rows", count=100, width=4, rule="row_adagrad", initial="uniform", scale=0.5),
]
if ctx.role == "server":
    counts = mls.ps.serve()
    assert counts["pushes"] >= 4 and counts["refused"] == 0, counts
else:
    client = mls.ps.Client(tables)
    w = np.zeros(1000, np.float32)
    for step in range(2):
        client.push("w", np.full(1000, -1.0, np.float32), lr=0.5, into=w)
        client.settle()
    assert (w == 0.5 * 2 + 0.5 * (0.5 * 2 + 2)).all(), w[:3]
    state, updates = client.read("w")
    assert updates == 2 and state.shape == (2, 1000) and (state[0] == w).all()
    assert (state[1] == -3).all()  # the velocity
    keys = np.array([3, 99, 3], np.uint64)
    before, after = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    client.pull_rows("rows", keys, before)
    client.settle()
    assert (np.abs(before) <= 0.5).all() and (before[0] == before[2]).all()
    client.push_rows("rows", keys, np.ones((3, 4), np.float32), lr=0.1)
    client.pull_rows("rows", keys, after)
    client.settle("the rows")
    np.testing.assert_allclose(after, before - 0.1, rtol=1e-5)  # g / sqrt(g^2)
    for wrong, told in (
        (lambda: client.push("v", w, lr=0.1), "no table 'v'"),
        (lambda: client.push("w", w[:5].copy(), lr=0.1), "takes 1000 elements, not 5"),
        (lambda: client.pull_rows("rows", np.array([100], np.uint64), after[:1]), "no row 100"),
        (lambda: client.pull_rows("rows", np.array([1], np.int64), after[:1]), "uint64"),
        (lambda: mls.ps.Table("x", count=3, rule="sgdd"), "Did you mean 'sgd'?"),
    ):
        try:
            wrong()
        except ConfigError as error:
            assert told in str(error), error
        else:
            raise AssertionError(told)
    assert sum(client.staleness) > 0
    client.close()
print("done", ctx.rank)
"""


def run_to_the_end(text, mpirun, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(text)
    done = mpirun(4, [script])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("done") == 4


def test_the_interface(mpirun, tmp_path):
    run_to_the_end(SCRIPT, mpirun, tmp_path)


def test_workers_with_other_tables_are_told(mpirun, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import mpimlsys as mls\n"
        "ctx = mls.init(mls.ClusterSection(servers=1))\n"
        "if ctx.role == 'server':\n"
        "    mls.ps.serve()\n"
        "mls.ps.Client([mls.ps.Table('w', count=10 + ctx.rank)])\n"
    )
    done = mpirun(3, [script])
    assert done.returncode != 0
    assert "rank 1 has other tables than rank 0" in done.stderr


LATE = """
import time
import numpy as np
import mpimlsys as mls

ctx = mls.init(mls.ClusterSection(servers=1), mls.CommSection(stall_warning_s=1, timeout_s=15))
if ctx.role == "server":
    mls.ps.serve()
client = mls.ps.Client([mls.ps.Table("w", count=10)])
if ctx.rank == 1:
    time.sleep(60)  # the others' failure ends it
client.push("w", np.ones(10, np.float32), lr=0.1, into=np.zeros(10, np.float32))
client.settle()
"""


@pytest.mark.one_mpi
def test_a_worker_that_is_late_is_named(mpirun, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LATE)
    done = mpirun(4, [script])
    assert done.returncode != 0
    report = done.stderr[done.stderr.index("no progress for") :]
    assert "ranks 0, 2: waiting" in report
    assert "rank 1 (" in report
    assert "rank 3 (" not in report  # the server waits for nobody
    assert "the pushes of step 1 have not come from rank 1" in done.stderr


@pytest.mark.one_mpi
def test_the_bench_has_a_row_for_each_case(mpirun):
    options = ["--dense", "64KiB", "--sparse", "100x8", "--rows", "5000", "--json"]
    done = mpirun(3, ["-m", "mpimlsys", "bench", "ps", "--servers", "1", *options])
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["kind"] for row in rows] == ["dense", "sparse", "sparse", "sparse"]
    assert rows[0]["bytes"] == 65536
    assert all(row["workers"] == 2 and row["servers"] == 1 for row in rows)
    assert all(row["median_s"] > 0 and row["ratio_to_plain"] > 0 for row in rows)
    assert all(row["rows_per_s"] > 0 for row in rows[1:])


SNAPSHOTS = """
import numpy as np
import mpimlsys as mls

ctx = mls.init(mls.ClusterSection(servers=2), mls.CommSection(timeout_s=30))
STEPS = 40
tables = [
    mls.ps.Table("w", count=100_000, consistency="asp"),
    mls.ps.Table("rows", count=1000, width=4, consistency="asp"),
]
if ctx.role == "server":
    mls.ps.serve()
elif ctx.group.rank == 0:
    client = mls.ps.Client(tables)
    for step in range(STEPS):
        client.push("w", np.full(100_000, -1.0, np.float32), lr=1.0)
        client.push_rows(
            "rows", np.array([step], np.uint64), np.full((1, 4), -1.0, np.float32), lr=1.0
        )
        client.settle()
    client.close()
else:
    client = mls.ps.Client(tables, reads_only=True)
    whole, rows = np.full(100_000, np.nan, np.float32), np.zeros((1000, 4), np.float32)
    versions = (0, 0)
    while versions != (STEPS, STEPS):
        with client.snapshot("w") as snapshot:
            for elements, values in snapshot:
                whole[elements] = values[:, 0]
        assert set(np.unique(whole)) == {float(updates) for updates in snapshot.versions}
        versions = snapshot.versions
    with client.snapshot("rows") as unread:
        pass  # what was not read is let go
    found = client.snapshot("rows", since=(0, 0))
    for touched, values in found:
        rows[touched] = values
    while found.versions != (STEPS, STEPS):
        found = client.snapshot("rows", since=found.versions)
        for touched, values in found:
            rows[touched] = values
    assert (rows[:STEPS] == 1).all() and (rows[STEPS:] == 0).all()
    client.close()
print("done", ctx.rank)
"""


def test_a_worker_reads_snapshots_while_another_trains(mpirun, tmp_path):
    run_to_the_end(SNAPSHOTS, mpirun, tmp_path)


EMBEDDINGS = """
import numpy as np
import mpimlsys as mls
from mpimlsys import nn
from mpimlsys.errors import ConfigError

ctx = mls.init(mls.ClusterSection(servers=2), mls.CommSection(timeout_s=30))
COUNT, WIDTH = 50, 4


class Bag(nn.Module):
    loss = nn.CrossEntropyLoss()

    def __init__(self, embedding):
        self.embedding = embedding
        self.body = nn.Linear(WIDTH, 3)

    def forward(self, x, phase):
        self.shape = x.shape
        return self.body.forward(self.embedding.forward(x, phase).sum(axis=1), phase)

    def backward(self, grad, ready):
        each = np.broadcast_to(self.body.backward(grad, ready)[:, None], (*self.shape, WIDTH))
        return self.embedding.backward(each, ready)


def new(model, exchange=None):
    return mls.Trainer(model, optimizer=mls.optim.sgd(0.5), exchange=exchange, accumulate=2)


def trained(model, exchange, first=None):
    trainer = new(model, exchange)
    if first is not None:
        model.embedding.weight.value[...] = 0
        model.body.weight.value[...], model.body.bias.value[...] = first
    first = model.body.weight.value.copy(), model.body.bias.value.copy()
    random = np.random.default_rng(0)
    samples = mls.data.ArrayDataset(
        random.integers(0, COUNT, (101, 5)), random.integers(0, 3, 101), dtype="int64"
    )
    # the last step of an epoch has one sample: one worker has none
    losses = [report.loss for report in trainer.fit(samples, epochs=3, batch_size=20)]
    return trainer, losses, trainer.evaluate(samples).loss, first


if ctx.role == "server":
    mls.ps.serve()
else:
    layer = nn.ServedEmbedding(mls.ps.Table("words", COUNT, width=WIDTH))
    servers = mls.exchange.ParameterServers(embeddings=[layer])
    served, losses, loss, first = trained(Bag(layer), servers)
    usual, same, last, _ = trained(Bag(nn.Embedding(COUNT, WIDTH)), None, first)
    np.testing.assert_allclose(losses, same, rtol=1e-5)
    np.testing.assert_allclose(loss, last, rtol=1e-5)
    np.testing.assert_allclose(
        layer.forward(np.arange(COUNT), None), usual.model.embedding.weight.value, atol=1e-6
    )
    dense = mls.ps.Table("x", 5)
    again = nn.ServedEmbedding(mls.ps.Table("x", 5, width=1))
    for wrong, told in (
        (lambda: layer.forward(np.array([[COUNT]]), None), "index of 50 is outside the 50 rows"),
        (lambda: layer.forward(np.array([[-1]]), None), "index of -1 is outside"),
        (lambda: again.forward(np.array([[1]]), None), "give this layer to ParameterServers"),
        (lambda: layer.forward(np.ones((1, 1)), None), "named by integers, not float64"),
        (lambda: nn.ServedEmbedding(dense), "give the table 'x' a width"),
    ):
        try:
            wrong()
        except ConfigError as error:
            assert told in str(error), error
        else:
            raise AssertionError(told)
    served.close()
print("done", ctx.rank)
"""


def test_embeddings_at_servers_are_those_in_the_model(mpirun, tmp_path):
    run_to_the_end(EMBEDDINGS, mpirun, tmp_path)


CHECKPOINTS = (
    EMBEDDINGS.partition("if ctx.role")[0].replace("servers=2", "servers=int(sys.argv[1])")
    + """
def model():
    rows = mls.ps.Table(
        "words",
        COUNT,
        width=WIDTH,
        rule="lazy_adam",
        initial="normal",
        scale=0.3,
        hot=(0, 3, 20, 49),
    )
    layer = nn.ServedEmbedding(rows, lr=0.1)
    return Bag(layer), mls.exchange.ParameterServers(embeddings=[layer])


if ctx.role == "server":
    mls.ps.serve()
else:
    file = Path(sys.argv[2])
    random = np.random.default_rng(0)
    samples = mls.data.ArrayDataset(
        random.integers(0, COUNT, (101, 5)), random.integers(0, 3, 101), dtype="int64"
    )
    trainer = new(*model())
    peers = ctx.among_peers()
    if not file.exists():
        before = [report.loss for report in trainer.fit(samples, epochs=1, batch_size=20)]
        trainer.settle()
        state, own = trainer.state_dict(), trainer.own_state_dict()
        kept = {name: value.copy() for name, value in state.items()}
        np.savez(file.with_suffix(f".{peers.rank}.npz"), **own)
        after = [report.loss for report in trainer.fit(samples, epochs=2, batch_size=20)]
        if peers.is_root:
            np.savez(file, losses=after, **kept)
    else:
        saved = dict(np.load(file))
        own = {}
        for part in file.parent.glob("kept.*.npz"):
            own |= np.load(part)
        losses = saved.pop("losses")
        trainer.load_state_dict(saved, trainer.handed_out(own, saved, peers.rank))
        after = [report.loss for report in trainer.fit(samples, epochs=2, batch_size=20)]
        np.testing.assert_allclose(after, losses, rtol=1e-5)
        if len(sys.argv) > 3:
            assert (after == losses).all()
        for wrong in ({name: value for name, value in own.items() if "0.words" not in name},):
            try:
                trainer.handed_out(wrong, saved, 0)
            except ConfigError as error:
                assert "does not hold 50 rows of 12 numbers for 'words'" in str(error)
            else:
                raise AssertionError("half of the rows were enough")
    trainer.close()
print("done", ctx.rank)
"""
).replace("import numpy", "import sys\nfrom pathlib import Path\n\nimport numpy", 1)


def test_rows_are_in_checkpoints_and_go_to_other_servers(mpirun, tmp_path):
    path, kept = tmp_path / "script.py", tmp_path / "kept.npz"
    path.write_text(CHECKPOINTS)
    for ranks, servers, same in ((4, 2, ()), (4, 2, ("same",)), (3, 1, ()), (5, 2, ())):
        done = mpirun(ranks, [path, servers, kept, *same])
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("done") == ranks
