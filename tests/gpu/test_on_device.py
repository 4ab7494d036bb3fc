"""Every layer, loss and optimiser on a device gives the bits of the host."""

import numpy as np
import pytest

from mpimlsys import nn, optim
from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import to_host
from mpimlsys.types import Phase, Segment

RNG = np.random.default_rng(5)
LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "linear of sequences": (lambda: nn.Linear(4, 3, bias=False), (5, 2, 4)),
    "conv": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 2, 6, 5)),
    "first conv": (lambda: nn.Conv2d(1, 4, 5, input_gradient=False), (3, 1, 9, 8)),
    "pool": (lambda: nn.MaxPool2d(2), (2, 2, 6, 5)),
    "overlapping pool": (lambda: nn.MaxPool2d(3, 1), (2, 2, 6, 5)),
    "flatten": (lambda: nn.Flatten(), (2, 3, 2)),
    "relu": (lambda: nn.ReLU(), (3, 4)),
    "tanh": (lambda: nn.Tanh(), (3, 4)),
    "sigmoid": (lambda: nn.Sigmoid(), (3, 4)),
    "dropout": (lambda: nn.Dropout(0.4), (3, 40)),
    "layer norm": (lambda: nn.LayerNorm(6), (2, 3, 6)),
    "rnn": (lambda: nn.RNN(3, 4), (2, 5, 3)),
    "lstm": (lambda: nn.LSTM(3, 4), (2, 5, 3)),
    "embedding": (lambda: nn.Embedding(7, 3), (2, 5)),
}
SEGMENTS = [Segment("a", 0, 50_000), Segment("b", 50_000, 50_007, decay=False)]
OPTIMIZERS = {
    "sgd": lambda: optim.sgd(0.1, weight_decay=0.01),
    "nesterov": lambda: optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: optim.adam(0.01, weight_decay=0.1),
    "adamw": lambda: optim.adamw(0.01),
    "lamb": lambda: optim.lamb(0.01),
    "onebit_adam": lambda: optim.onebit_adam(0.01, freeze_steps=2),
    "zero_one_adam": lambda: optim.zero_one_adam(0.01, interval=1),
}
LOSSES = {
    "mse": (nn.MSELoss(), (6, 1), RNG.normal(size=6)),
    "classes": (nn.CrossEntropyLoss(), (6, 4), np.array([0, 3, 1, 1, 2, 0])),
    "sequences": (nn.CrossEntropyLoss(), (2, 3, 4), np.array([[0, 3, 1], [1, 2, 0]])),
    "two classes": (nn.BCEWithLogitsLoss(), (6, 1), np.array([0, 1, 1, 0, 0, 1])),
}


def passed(make, inputs, grads, phase, allocate, put):
    """Outputs, input gradient and parameter gradients of two passes."""
    layer, space, found = make(), None, []
    if list(layer.named_parameters()):
        space = nn.FlatSpace(layer, allocate=allocate)
        space.initialise(3)
    for _ in range(2):
        outputs = layer.forward(put(inputs), phase())
        inner = layer.backward(put(grads(outputs.shape)), lambda _: None)
        assert type(outputs) is type(inner) is type(put(inputs))
        found += [np.array(to_host(outputs)), np.array(to_host(inner))]
    return found if space is None else [*found, to_host(space.gradients)]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("samples", [None, 0])
def test_layers(cupy, name, samples):
    make, shape = LAYERS[name]
    shape = shape if samples is None else (samples, *shape[1:])
    inputs = RNG.normal(size=shape).astype(np.float32)
    if name == "embedding":
        inputs = RNG.integers(0, 7, shape)

    def grads(shape):
        return np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def phase():
        return Phase(True, np.random.default_rng(0))

    wanted = passed(make, inputs, grads, phase, np.empty, lambda x: x)
    found = passed(make, inputs, grads, phase, cupy.empty, cupy.asarray)
    for mine, host in zip(found, wanted, strict=True):
        assert mine.dtype == host.dtype
        np.testing.assert_array_equal(mine, host)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(cupy, name):
    loss, shape, targets = LOSSES[name]
    outputs = RNG.normal(size=shape).astype(np.float32)
    value, gradient = loss(outputs, targets, 9)
    mine, slope = loss(cupy.asarray(outputs), cupy.asarray(targets), 9)
    assert float(mine) == value
    np.testing.assert_array_equal(slope.get(), gradient)
    measured = loss.measure(cupy.asarray(outputs), cupy.asarray(targets))
    assert float(measured) == loss.measure(outputs, targets)


@pytest.mark.parametrize("label", [-1, 4])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()])
def test_a_wrong_label_makes_the_loss_nan_without_waiting(cupy, loss, label):
    outputs = cupy.asarray(np.zeros((2, 4 if isinstance(loss, nn.CrossEntropyLoss) else 1)))
    value, _ = loss(outputs, cupy.asarray(np.array([0, label])), 2)
    assert cupy.waits() == 0
    assert np.isnan(float(value))
    with pytest.raises(ConfigError, match=f"a label of {label}"):
        loss.check(outputs, np.array([0, label]))


@pytest.mark.parametrize("index", [-1, 7])
def test_a_wrong_index_makes_its_row_nan_without_waiting(cupy, index):
    layer = nn.Embedding(7, 3)
    nn.FlatSpace(layer, allocate=cupy.empty).initialise(0)
    phase = Phase(True, np.random.default_rng(0))
    inputs = cupy.asarray(np.array([2, index]))
    rows = layer.forward(inputs, phase)
    assert cupy.waits() == 0
    assert np.isnan(rows.get()).all(axis=1).tolist() == [False, True]
    with pytest.raises(ConfigError, match=f"an index of {index} is outside"):
        layer.forward(inputs, Phase(True, phase.rng, checked=True))


@pytest.mark.parametrize("clip", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(cupy, name, clip):
    count = SEGMENTS[-1].stop
    start = RNG.normal(size=count).astype(np.float32)
    start[:5] = 0
    steps = [RNG.normal(size=count).astype(np.float32) for _ in range(4)]
    results = []
    for put in (np.array, cupy.asarray):
        parameters, optimizer = put(start), OPTIMIZERS[name]()
        optimizer.bind(parameters, SEGMENTS)
        for step in steps:
            gradients = put(step)
            if clip:
                optim.clip_by_global_norm(gradients, clip)
            optimizer.step(parameters, gradients, optimizer.lr)
        assert cupy.waits() == 0
        again = OPTIMIZERS[name]()
        again.bind(parameters, SEGMENTS)
        again.load_state_dict(
            {key: to_host(value) for key, value in optimizer.state_dict().items()}
        )
        results.append((parameters, again.state_dict()))
        cupy.forget()
    (wanted, state), (found, mine) = results
    np.testing.assert_array_equal(found.get(), wanted)
    for key, value in state.items():
        np.testing.assert_array_equal(to_host(mine[key]), value)


def test_parameters_do_not_depend_on_the_device(cupy):
    spaces = [
        nn.FlatSpace(nn.Linear(5, 4), allocate=allocate) for allocate in (np.empty, cupy.empty)
    ]
    for space in spaces:
        space.initialise(7)
    assert spaces[0].digest() == spaces[1].digest()
    spaces[0].initialise(8)
    spaces[1].load_state_dict(spaces[0].state_dict())
    assert spaces[0].digest() == spaces[1].digest()
