"""Trainings of several ranks on GPUs: arrays and the extension are stand-ins on the host."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]

STRICT = Path(__file__).resolve().parent.parent / "gpu"
TRAIN = f"""
sys.path.append({str(STRICT)!r})
import strict
sys.modules["cupy"] = strict.Namespace()
from mpimlsys import nn, optim
ctx = mls.init()
rng = np.random.default_rng(0)
inputs = rng.normal(size=(60, 20)).astype("float32")
data = mls.data.ArrayDataset(inputs, (inputs[:, 0] > 0).astype("int64"), dtype="float32")

parse = mls.compress.parse
clipped = mls.compress.Compression(parse("top_k:0.1"), momentum=0.5, clip_norm=0.01)
around = mls.compress.Compression(parse("bf16"), pattern="ring")
balanced = mls.compress.Compression(parse("top_k:0.1"), "ef21", clip_norm=0.1, pattern="balanced")

def trainer(device, compress=None, **options):
    model = nn.models.build("mlp", (20,), 2, {{"hidden": [70, 50]}})
    exchange = mls.exchange.AllReduce(compress=compress)
    options = {{"bucket_bytes": 8192, **options}}
    return mls.Trainer(
        model, optimizer=optim.adam(0.01), exchange=exchange, device=device, seed=3, **options
    )

def trained(made, epochs=2):
    losses = [report.loss for report in made.fit(data, epochs=epochs, batch_size=12)]
    made.close()
    return losses
"""


def test_losses_are_those_of_the_host(on_ranks):
    body = """
for compress in (None, "int8", "top_k:0.05", "bf16", "sign", clipped, around, balanced):
    losses = [trained(trainer(device, compress)) for device in ("cpu", "cuda")]
    assert losses[0] == losses[1], (compress, losses)
half = trained(trainer("cuda", None, precision="bf16")), trained(trainer("cuda", None))
assert np.allclose(*half, rtol=0.05), half
print(f"rank {ctx.rank} is well")
"""
    done = on_ranks(2, TRAIN + body, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is well") == 2


def test_a_checkpoint_goes_on_on_the_other_device(on_ranks):
    body = """
import itertools
from mpimlsys.kernels.arrays import to_host
for first, compress in itertools.product(("cpu", "cuda"), ("int4", clipped, around, balanced)):
    begun = trainer(first, compress)
    list(begun.fit(data, epochs=2, batch_size=12))
    saved = {name: np.array(to_host(value)) for name, value in begun.state_dict().items()}
    own = begun.own_state_dict()
    ends = []
    for device in ("cpu", "cuda"):
        again = trainer(device, compress)
        again.load_state_dict(saved, own)
        ends.append(trained(again))
    assert ends[0] == ends[1], (first, compress, ends)
print(f"rank {ctx.rank} is well")
"""
    done = on_ranks(2, TRAIN + body, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is well") == 2


def test_auto_measures_decides_and_goes_on(on_ranks):
    body = """
import time
from mpimlsys.device.reductions import Reductions
from mpimlsys.kernels.arrays import to_host
reduce = Reductions._reduce

def slowly(self, *args):  # so that compression pays
    time.sleep(0.05)
    return reduce(self, *args)

Reductions._reduce = slowly
begun = trainer("cuda", "auto")
losses = [report.loss for report in begun.fit(data, epochs=12, batch_size=12)]
live, news = begun.exchange, begun.exchange.news()
measured, codec = live.measured, live.decision.chosen.codec
assert codec is not None, news
assert all(took_s > 0.05 for took_s in measured.dense_s), measured
assert 0 <= max(measured.ready_s) <= measured.compute_s < measured.step_s, measured
assert all(speed.encode_s > 0 < speed.decode_s for speed in measured.speeds.values()), measured
assert losses[-1] < losses[0]
sent = {traffic.codec for traffic in live.traffic()}
assert sent <= {"none", *map(str, measured.speeds)} and sent != {"none"}, (sent, news)
errors = []
note = live._guard.error_of_step
live._guard.error_of_step = lambda error: [errors.append(error), note(error)][1]
list(begun.fit(data, epochs=14, batch_size=12))
assert errors and all(0 < error < 1 for error in errors), errors
saved = {name: np.array(to_host(value)) for name, value in begun.state_dict().items()}
own = begun.own_state_dict()
begun.close()
ends = []
for device in ("cuda", "cpu"):
    again = trainer(device, "auto")
    again.load_state_dict(saved, own)
    ends.append([report.loss for report in again.fit(data, epochs=16, batch_size=12)])
    assert {traffic.codec for traffic in again.exchange.traffic()} == sent
    again.close()
assert ends[0] == ends[1], ends
print(f"rank {ctx.rank} is well")
"""
    done = on_ranks(2, TRAIN + body, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is well") == 2
