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
for compress in (None, "int8", "top_k:0.05", "bf16", "sign"):
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
from mpimlsys.kernels.arrays import to_host
for first, then in (("cpu", "cuda"), ("cuda", "cpu")):
    begun = trainer(first, "int4")
    list(begun.fit(data, epochs=2, batch_size=12))
    saved = {name: np.array(to_host(value)) for name, value in begun.state_dict().items()}
    own = begun.own_state_dict()
    ends = []
    for device in (first, then):
        again = trainer(device, "int4")
        again.load_state_dict(saved, own)
        ends.append(trained(again))
    assert ends[0] == ends[1], (first, ends)
print(f"rank {ctx.rank} is well")
"""
    done = on_ranks(2, TRAIN + body, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is well") == 2


@pytest.mark.parametrize(
    ("compress", "told"),
    [
        (
            "mls.compress.Compression(mls.compress.parse('top_k:0.1'), pattern='balanced')",
            "compression on a GPU has no pattern = 'balanced'",
        ),
        ("'auto'", "'auto' is not decided on a GPU"),
    ],
)
def test_what_a_gpu_does_not_do_is_one_error(on_ranks, compress, told):
    body = f"""
try:
    trained(trainer("cuda", {compress}))
except mls.errors.ConfigError as error:
    print(f"[{{error}}]", flush=True)
"""
    done = on_ranks(2, TRAIN + body)
    assert done.stdout.count(told) == 2, done.stdout + done.stderr
