"""Whole trainings on a device give the bits of the host, and wait for it once in a step."""

from pathlib import Path

import pytest

HEAD = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import strict
sys.modules["cupy"] = cupy = strict.Namespace()
"""
TRAINERS = """
import numpy as np
import mpimlsys as mls
from mpimlsys import nn, optim
from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import to_host

rng = np.random.default_rng(0)
TABLE = rng.normal(size=(40, 6)).astype("float32")
PICTURES = rng.normal(size=(24, 1, 16, 20)).astype("float32")
IDS = rng.integers(0, 5, (16, 9))
CASES = {
    "linear": ((TABLE, TABLE @ rng.normal(size=(6, 2)).astype("float32")), 2, {}),
    "logistic": ((TABLE, (TABLE[:, 0] > 0).astype("int64")), 2, {}),
    "mlp": ((TABLE, (TABLE[:, 0] > 0).astype("int64")), 2, {"hidden": [8], "dropout": 0.1}),
    "cnn": ((PICTURES, np.arange(24) % 3), 3, {}),
    "char_rnn": ((IDS[:, :-1], IDS[:, 1:]), 5, {"hidden": [8]}),
    "char_lstm": ((IDS[:, :-1], IDS[:, 1:]), 5, {"hidden": [8], "layers": 2}),
}

def make(name="mlp", device="cuda", optimizer=None, **options):
    data, outputs, how = CASES[name]
    model = nn.models.build(name, data[0].shape[1:], outputs, how)
    optimizer = optimizer or optim.adam(0.01)
    return mls.Trainer(model, optimizer=optimizer, device=device, seed=3, **options)

def data(name="mlp"):
    inputs, targets = CASES[name][0]
    kind = "int64" if inputs.dtype.kind == "i" else "float32"
    return mls.data.ArrayDataset(inputs, targets, dtype=kind)

def trained(trainer, name="mlp", **options):
    options = {"epochs": 2, "batch_size": 10, **options}
    return [report.loss for report in trainer.fit(data(name), **options)]

def message(act):
    try:
        act()
    except ConfigError as error:
        assert error.on_all_ranks
        return str(error)
    raise AssertionError("nothing was raised")
"""

PARTS = {
    "models": """
for name in CASES:
    host, there = make(name, "cpu"), make(name)
    assert isinstance(there.space.parameters, strict.Array)
    # recurrent layers project all times by one product there: its last bits may differ
    limit = 1e-5 if name.startswith("char") else 0
    np.testing.assert_allclose(trained(there, name), trained(host, name), rtol=limit)
    values = [to_host(each.space.parameters) for each in (host, there)]
    np.testing.assert_allclose(*values, rtol=limit, atol=limit)
    measured = [(m.loss, m.measure) for m in (each.evaluate(data(name)) for each in (host, there))]
    np.testing.assert_allclose(*measured, rtol=limit)
    answers = [each.predict(data(name).batch(np.arange(5))[0]) for each in (host, there)]
    np.testing.assert_allclose(*answers, rtol=limit, atol=limit)
""",
    "what a step is made of": """
options = {"clip_norm": 0.1, "accumulate": 3, "schedule": lambda step: 1 / (1 + step)}
for make_optimizer in (lambda: optim.sgd(0.1, momentum=0.9), lambda: optim.lamb(0.01)):
    host = make("cnn", "cpu", make_optimizer(), **options)
    there = make("cnn", "cuda", make_optimizer(), **options)
    assert trained(there, "cnn") == trained(host, "cnn")
""",
    "one wait in a step": """
for name in CASES:
    trainer = make(name, clip_norm=1.0, accumulate=2)
    before = cupy.waits()
    steps = len(trained(trainer, name))
    assert cupy.waits() - before == steps
""",
    "state": """
host, there = make(device="cpu"), make()
trained(host, max_steps=3)
there.load_state_dict({name: np.array(value) for name, value in host.state_dict().items()})
assert trained(there) == trained(host)
again = make(device="cpu")
again.load_state_dict({name: to_host(value) for name, value in there.state_dict().items()})
assert again.space.digest() == host.space.digest()
""",
    "labels and indices that cannot be": """
for what, inputs, targets, wanted in (
    ("mlp", TABLE, np.full(40, 2), "a label of 2, but the model has 2 outputs"),
    ("logistic", TABLE, np.full(40, 3), "a label of 3 in a two-class problem"),
    ("char_rnn", IDS[:, :-1] + 1, IDS[:, 1:], "an index of 5 is outside the embedding's 5 rows"),
):
    pair = mls.data.ArrayDataset(inputs, targets, dtype=inputs.dtype.name)
    trainer = make(what)
    assert wanted in message(lambda: trainer.fit(pair)), what
    assert wanted in message(lambda: trainer.evaluate(pair)), what
try:
    make("char_rnn").predict(np.full((2, 3), 9))
except ConfigError as error:
    assert "an index of 9" in str(error)
else:
    raise AssertionError("nothing was raised")
""",
    "divergence": """
from mpimlsys.errors import Diverged
trainer = make(optimizer=optim.sgd(1e30))
try:
    trained(trainer)
except Diverged as error:
    assert "parameter '" in str(error) or "output of layer" in str(error), error
else:
    raise AssertionError("nothing was raised")
""",
    "parameter servers": """
told = message(lambda: make(exchange=mls.exchange.ParameterServers()))
assert "does not go with parameter servers" in told and "cluster.device = 'cpu'" in told
""",
    "a missing device": """
sys.modules["cupy"] = None
assert "pip install 'mpimlsys[gpu]'" in message(make)
""",
}


@pytest.mark.parametrize("part", PARTS)
def test_trainer(mpirun, tmp_path, part):
    script = tmp_path / "script.py"
    script.write_text(HEAD + TRAINERS + PARTS[part])
    done = mpirun(1, [script])
    assert done.returncode == 0, done.stdout + done.stderr


JOB = """
[job]
epochs = 2
[data]
source = "boston"
targets = "numbers"
standardise = true
batch_size = 64
[model]
name = "linear"
[checkpoint]
every = "3 steps"
"""
COMMAND = """
from mpimlsys import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_job_goes_on_on_another_device(mpirun, write_job, tmp_path):
    job, script = write_job(JOB), tmp_path / "script.py"
    script.write_text(HEAD + COMMAND)

    def run(*argv):
        done = mpirun(1, [script, *argv])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def train(out, device, *options):
        run(
            *("train", job, "--set", f"job.out={tmp_path / out}"),
            *("--set", f"cluster.device={device}", *options),
        )
        (state,) = (tmp_path / out / "checkpoints" / "step-0000000016").glob("*.safetensors")
        return state.read_bytes()

    stop = ("--set", "job.max_steps=7")
    whole = train("whole", "cpu")
    assert train("there", "cuda") == whole
    for out, first, second in (("a", "cpu", "cuda"), ("b", "cuda", "cpu")):
        run(
            *("train", job, "--set", f"job.out={tmp_path / out}"),
            *("--set", f"cluster.device={first}", *stop),
        )
        assert train(out, second, "--resume") == whole
    measured = [run("evaluate", tmp_path / out, "--json").split('"step"')[1] for out in "ab"]
    assert measured[0] == measured[1]


@pytest.mark.parametrize(
    ("ranks", "gpus", "settings", "message"),
    [
        (2, 0, [], "this node has no GPU"),
        (3, 1, ["cluster.servers=1", "exchange.kind=ps"], "does not go with parameter servers"),
        (2, 1, ["job.precision=fp16", "exchange.compress=int8"], "job.precision = 'bf16'"),
        (2, 1, ["job.precision=bf16", "job.dtype=float64"], "job.dtype = 'float32'"),
    ],
)
def test_jobs_that_cannot_be_run(mpirun, write_job, tmp_path, ranks, gpus, settings, message):
    script = tmp_path / "script.py"
    script.write_text(HEAD.replace("Namespace()", f"Namespace({gpus})") + COMMAND)
    keys = [f"job.out={tmp_path / 'run'}", "cluster.device=cuda", *settings]
    options = [word for key in keys for word in ("--set", key)]
    done = mpirun(ranks, [script, "train", write_job(JOB), *options])
    assert done.returncode == 2, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("mpimlsys: error") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
