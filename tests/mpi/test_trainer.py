"""The trainer's own laws, on one and on several ranks: modes, accumulation, state, mistakes."""

import pytest

HEAD = """
import numpy as np
import mpimlsys as mls
from mpimlsys import nn, optim
from mpimlsys.errors import ConfigError

ctx = mls.init()
rng = np.random.default_rng(0)
x = rng.normal(size=(41, 6))
y = rng.integers(0, 3, 41)

def make(**options):
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    options = {"loss": nn.CrossEntropyLoss(), "optimizer": optim.adam(0.01), "dtype": "float64",
               "seed": 4, **options}
    return mls.Trainer(model, **options)

def train(trainer, data=(x, y), **options):
    return [r.loss for r in trainer.fit(mls.data.ArrayDataset(*data, dtype="float64"), **options)]
"""

PARTS = {
    "modes": """
batch = train(make(), epochs=3, batch_size=0)
assert len(batch) == 3
mini = train(make(), epochs=3, batch_size=10)
assert len(mini) == 15
if ctx.size == 1:
    assert len(train(make(), epochs=1, batch_size=1)) == 41
assert len(train(make(), epochs=3, batch_size=10, max_steps=7)) == 7
""",
    "a batch smaller than the ranks": """
one = train(make(), epochs=1, batch_size=1)
assert len(one) == 41 and np.isfinite(one).all()
""",
    "a compressed optimiser whose batch is smaller than the ranks": """
class Counting(type(optim.onebit_adam())):
    prepared = 0

    def prepare(self, bucket, workers):
        self.prepared += 1
        super().prepare(bucket, workers)

adam = Counting(0.01, (0.9, 0.999), 1e-8, 3, 0)
trainer = make(optimizer=adam, dtype="float32")
data = mls.data.ArrayDataset(x, y, dtype="float32")
trainer.fit(data, epochs=1, batch_size=1, max_steps=6)
assert adam.prepared == 6 * len(trainer.space.buckets), "ranks without samples have a share too"
""",
    "accumulation": """
whole = train(make(), epochs=2, batch_size=12)
for parts in (2, 3, 50):
    found = train(make(accumulate=parts), epochs=2, batch_size=12)
    np.testing.assert_allclose(found, whole, rtol=1e-12)
""",
    "state": """
whole = make()
train(whole, epochs=4, batch_size=10)
first = make()
train(first, epochs=4, batch_size=10, max_steps=9)
state = {name: value.copy() for name, value in first.state_dict().items()}
second = make(seed=4)
second.load_state_dict(state)
assert second.steps_done == 9
train(second, epochs=4, batch_size=10)
assert second.space.digest() == whole.space.digest()
""",
    "clipping and schedules": """
calm = make(optimizer=optim.sgd(1.0), clip_norm=1e-3, schedule=lambda step: 0.5)
before = calm.space.parameters.copy()
(report,) = calm.fit((x, y), epochs=1, batch_size=0)
assert report.lr == 0.5
assert 0 < np.linalg.norm(calm.space.parameters - before) <= 0.5e-3 * 1.000001
""",
    "evaluation": """
trainer = make()
result = trainer.evaluate(mls.data.ArrayDataset(x, y, dtype="float64"))
outputs = trainer.predict(x)
assert abs(result.measure - (outputs.argmax(1) == y).mean()) < 1e-12
assert result.measure_name == "accuracy" and result.samples == 41
assert abs(result.loss - nn.CrossEntropyLoss()(outputs, y, 41)[0]) < 1e-12
try:
    trainer.evaluate((x[:0], y[:0]))
except ConfigError as error:
    assert "empty" in str(error)
""",
    "mistakes": """
class Forgetful(nn.Linear):
    def backward(self, grad, ready):
        return super().backward(grad, lambda parameter: None)

def message(act):
    try:
        act()
    except ConfigError as error:
        return str(error)
    raise AssertionError("no error")

assert "needs a loss" in message(lambda: make(loss=None))
forgetful = mls.Trainer(Forgetful(6, 3), loss=nn.CrossEntropyLoss(), optimizer=optim.sgd(0.1))
assert "no gradient for bias, weight" in message(lambda: forgetful.fit((x.astype("f"), y)))
assert "labels go from 0 to 2" in message(lambda: train(make(), (x, y + 1)))
assert "dtype = 'float16'" in message(lambda: make(dtype="float16"))
if ctx.size > 1:
    assert "cannot be shared by" in message(lambda: train(make(), (x[:1], y[:1])))
""",
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("ranks", [1, 3])
def test_laws(mpirun, tmp_path, part, ranks):
    script = tmp_path / "script.py"
    script.write_text(f"{HEAD}{PARTS[part]}\nif ctx.is_root:\n    print('all is well')\n")
    done = mpirun(ranks, [script])
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout
