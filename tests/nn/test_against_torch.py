"""Every layer, loss and model gives PyTorch's outputs and gradients."""

import numpy as np
import pytest

from mpimlsys import nn
from mpimlsys.types import Phase

pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor")
torch = pytest.importorskip(
    "torch",
    reason="PyTorch is not installed (pip install torch==2.13.0): nothing was compared with it",
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


def phase(training=True):
    return Phase(training, np.random.default_rng(0))


def close(ours, theirs, dtype):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == dtype
    scale = np.linalg.norm(theirs)
    assert np.linalg.norm(ours - theirs) <= TOLERANCE[dtype] * max(scale, 1e-3)


def tensor(array, grad=False):
    return torch.from_numpy(np.array(array)).requires_grad_(grad)


def attach(module, dtype, seed=1):
    space = nn.FlatSpace(module, dtype)
    space.initialise(seed)
    return space


def compare(ours, theirs, inputs, dtype, names=None, integer=False):
    """Forward and backward of both with the same parameters and output gradient."""
    parameters = dict(ours.named_parameters())
    if parameters:
        attach(ours, dtype)
    theirs = theirs.to(getattr(torch, dtype))
    names = names or {name: name for name in parameters}
    with torch.no_grad():
        for mine, its in names.items():
            dict(theirs.named_parameters())[its].copy_(tensor(parameters[mine].value))
    x = tensor(inputs if integer else inputs.astype(dtype), grad=not integer)
    wanted = theirs(x)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    grad = np.random.default_rng(2).normal(size=wanted.shape).astype(dtype)
    wanted.backward(tensor(grad))
    reported = []
    for _ in range(2):  # the second pass adds up and uses the buffers again
        found = ours.forward(np.asarray(x.detach()), phase())
        close(found, wanted, dtype)
        inner = ours.backward(grad, reported.append)
    assert len(reported) == 2 * len(parameters)
    for mine, its in names.items():
        close(parameters[mine].grad / 2, dict(theirs.named_parameters())[its].grad, dtype)
    if not integer:
        close(np.ascontiguousarray(inner), x.grad, dtype)


def normal(*shape):
    return np.random.default_rng(7).normal(size=shape)


@dtypes
def test_linear(dtype):
    compare(nn.Linear(5, 3), torch.nn.Linear(5, 3), normal(7, 5), dtype)
    compare(nn.Linear(5, 3, bias=False), torch.nn.Linear(5, 3, bias=False), normal(2, 4, 5), dtype)


@dtypes
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "side"),
    [(1, 5, 1, 0, 12), (3, 3, 1, 1, 8), (2, 3, 2, 0, 9), (4, 5, 2, 2, 11), (2, 1, 1, 0, 4)],
)
def test_conv2d(dtype, channels, kernel, stride, padding, side):
    ours = nn.Conv2d(channels, 6, kernel, stride=stride, padding=padding)
    theirs = torch.nn.Conv2d(channels, 6, kernel, stride=stride, padding=padding)
    compare(ours, theirs, normal(5, channels, side, side + 1), dtype)


@dtypes
@pytest.mark.parametrize(("size", "stride", "side"), [(2, 2, 8), (2, 2, 7), (3, 2, 9), (3, 1, 6)])
def test_max_pool(dtype, size, stride, side):
    compare(
        nn.MaxPool2d(size, stride),
        torch.nn.MaxPool2d(size, stride),
        normal(3, 2, side, side + 1),
        dtype,
    )


@dtypes
@pytest.mark.parametrize("name", ["ReLU", "Tanh", "Sigmoid", "Flatten"])
def test_without_parameters(dtype, name):
    compare(getattr(nn, name)(), getattr(torch.nn, name)(), normal(6, 3, 4) * 3, dtype)


@dtypes
def test_layer_norm(dtype):
    compare(nn.LayerNorm(9), torch.nn.LayerNorm(9), normal(4, 3, 9), dtype)


@dtypes
def test_embedding(dtype):
    indices = np.random.default_rng(3).integers(0, 11, (4, 6))
    compare(nn.Embedding(11, 5), torch.nn.Embedding(11, 5), indices, dtype, integer=True)


@dtypes
@pytest.mark.parametrize("name", ["RNN", "LSTM"])
def test_recurrent(dtype, name):
    ours = getattr(nn, name)(4, 6)
    theirs = getattr(torch.nn, name)(4, 6, batch_first=True)
    names = {n: f"{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    compare(ours, theirs, normal(3, 8, 4), dtype, names)


LOSSES = {
    "mse": (nn.MSELoss(), torch.nn.MSELoss(), normal(6, 3), normal(6, 3)),
    "mse of a column": (nn.MSELoss(), torch.nn.MSELoss(), normal(6, 1), normal(6, 1)),
    "cross-entropy": (
        nn.CrossEntropyLoss(),
        torch.nn.CrossEntropyLoss(),
        normal(6, 4) * 20,
        np.array([0, 3, 1, 1, 2, 0]),
    ),
    "bce": (
        nn.BCEWithLogitsLoss(),
        torch.nn.BCEWithLogitsLoss(),
        normal(6, 1) * 30,
        np.array([[0.0], [1], [1], [0], [1], [0]]),
    ),
}


@dtypes
@pytest.mark.parametrize("name", LOSSES)
def test_losses(dtype, name):
    ours, theirs, outputs, targets = LOSSES[name]
    outputs = outputs.astype(dtype)
    targets = targets if targets.dtype.kind == "i" else targets.astype(dtype)
    x = tensor(outputs, grad=True)
    wanted = theirs(x, tensor(targets))
    wanted.backward()
    value, gradient = ours(outputs, targets, len(outputs))
    assert value == pytest.approx(float(wanted), rel=TOLERANCE[dtype])
    close(gradient, x.grad, dtype)
    # parts of a batch add up to the whole
    parts = [ours(outputs[s], targets[s], len(outputs))[0] for s in (slice(0, 2), slice(2, 6))]
    assert sum(parts) == pytest.approx(value, rel=1e-6)


@dtypes
def test_cross_entropy_over_positions(dtype):
    outputs, targets = (
        normal(3, 5, 4).astype(dtype),
        np.random.default_rng(1).integers(0, 4, (3, 5)),
    )
    x = tensor(outputs, grad=True)
    wanted = torch.nn.functional.cross_entropy(x.reshape(15, 4), tensor(targets.reshape(15)))
    wanted.backward()
    value, gradient = nn.CrossEntropyLoss()(outputs, targets, 3)
    assert value == pytest.approx(float(wanted), rel=TOLERANCE[dtype])
    close(gradient, x.grad, dtype)


@dtypes
def test_the_whole_cnn(dtype):
    ours = nn.models.build("cnn", (1, 28, 28), 10, {"dropout": 0.0})
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 10, 5), torch.nn.MaxPool2d(2), torch.nn.ReLU(),
        torch.nn.Conv2d(10, 20, 5), torch.nn.MaxPool2d(2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(320, 50), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Linear(50, 10),
    )  # fmt: skip
    theirs = theirs.to(getattr(torch, dtype))
    attach(ours, dtype)
    parameters = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(tensor(parameters[name].value))
    images = normal(9, 1, 28, 28).astype(dtype)
    labels = np.random.default_rng(4).integers(0, 10, 9)
    loss = torch.nn.functional.cross_entropy(theirs(tensor(images)), tensor(labels))
    loss.backward()
    value, gradient = ours.loss(ours.forward(images, phase()), labels, 9)
    ours.backward(gradient, lambda _: None)
    assert value == pytest.approx(float(loss), rel=TOLERANCE[dtype])
    for name, parameter in theirs.named_parameters():
        close(parameters[name].grad, parameter.grad, dtype)


@dtypes
def test_the_whole_char_lstm(dtype):
    ours = nn.models.build("char_lstm", (7,), 12, {"hidden": [6], "layers": 2, "embedding": 5})
    attach(ours, dtype)
    parameters = dict(ours.named_parameters())
    kind = getattr(torch, dtype)
    embedding = torch.nn.Embedding(12, 5).to(kind)
    lstm = torch.nn.LSTM(5, 6, num_layers=2, batch_first=True).to(kind)
    linear = torch.nn.Linear(6, 12).to(kind)
    pairs = {"0.weight": embedding.weight, "3.weight": linear.weight, "3.bias": linear.bias}
    for layer in (0, 1):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            pairs[f"{layer + 1}.{name}"] = getattr(lstm, f"{name}_l{layer}")
    assert pairs.keys() == parameters.keys()
    with torch.no_grad():
        for name, its in pairs.items():
            its.copy_(tensor(parameters[name].value))
    rng = np.random.default_rng(8)
    ids, targets = rng.integers(0, 12, (4, 7)), rng.integers(0, 12, (4, 7))
    scores = linear(lstm(embedding(tensor(ids)))[0])
    loss = torch.nn.functional.cross_entropy(scores.reshape(28, 12), tensor(targets.reshape(28)))
    loss.backward()
    value, gradient = ours.loss(ours.forward(ids, phase()), targets, 4)
    ours.backward(gradient, lambda _: None)
    assert value == pytest.approx(float(loss), rel=TOLERANCE[dtype])
    for name, its in pairs.items():
        close(parameters[name].grad, its.grad, dtype)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nn.Linear(300, 200), lambda: torch.nn.Linear(300, 200)),
        (lambda: nn.Conv2d(20, 40, 5), lambda: torch.nn.Conv2d(20, 40, 5)),
    ],
)
def test_default_initialisation_has_the_distribution_of_torch(ours, theirs):
    """Both pooled over 50 seeds: 2000 numbers at least, so 0.1 is many standard errors."""
    drawn = {}
    for seed in range(50):
        torch.manual_seed(seed)
        module, other = ours(), dict(theirs().named_parameters())
        attach(module, "float32", seed)
        for name, parameter in module.named_parameters():
            mine, its = drawn.setdefault(name, ([], []))
            mine.append(parameter.value.ravel().copy())
            its.append(other[name].detach().numpy().ravel())
    for mine, its in (map(np.concatenate, pair) for pair in drawn.values()):
        assert mine.std() == pytest.approx(its.std(), rel=0.1)
        assert abs(mine).max() == pytest.approx(abs(its).max(), rel=0.01)
