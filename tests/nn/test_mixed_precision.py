"""Layers of 16 bits: float32 parameters and gradients, numbers close to those of float32."""

import ml_dtypes
import numpy as np
import pytest

from mpimlsys import nn
from mpimlsys.types import Phase

RNG = np.random.default_rng(4)
HALVES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
halves = pytest.mark.parametrize("half", HALVES)
LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "conv": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 2, 6, 5)),
    "pool": (lambda: nn.MaxPool2d(2), (2, 2, 6, 5)),
    "relu": (lambda: nn.ReLU(), (3, 4)),
    "tanh": (lambda: nn.Tanh(), (3, 4)),
    "sigmoid": (lambda: nn.Sigmoid(), (3, 4)),
    "dropout": (lambda: nn.Dropout(0.4), (3, 40)),
    "layer norm": (lambda: nn.LayerNorm(6), (2, 3, 6)),
    "rnn": (lambda: nn.RNN(3, 4), (2, 5, 3)),
    "lstm": (lambda: nn.LSTM(3, 4), (2, 5, 3)),
    "embedding": (lambda: nn.Embedding(7, 3), (2, 5)),
}


def passed(make, inputs, half):
    """Outputs, gradient of the inputs, and of the parameters."""
    layer, gradients = make(), np.zeros(0)
    if list(layer.named_parameters()):
        space = nn.FlatSpace(layer, half=half)
        space.initialise(3)
        gradients = space.gradients
        assert space.parameters.dtype == gradients.dtype == np.float32
    outputs = layer.forward(inputs, Phase(True, np.random.default_rng(0)))
    grad = np.random.default_rng(1).normal(size=outputs.shape).astype(outputs.dtype)
    inner = layer.backward(grad, lambda _: None)
    if half is not None:
        assert outputs.dtype == inner.dtype == half
    return [np.array(array, np.float64) for array in (outputs, inner, gradients)]


@halves
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, half):
    half = HALVES[half]
    make, shape = LAYERS[name]
    inputs = RNG.normal(size=shape).astype(half)
    plain = inputs.astype(np.float32)
    if name == "embedding":
        plain = inputs = RNG.integers(0, 7, shape)
    for found, wanted in zip(passed(make, inputs, half), passed(make, plain, None), strict=True):
        unit = float(ml_dtypes.finfo(half).eps)
        assert np.abs(found - wanted).max(initial=0) <= 8 * unit * max(
            1, np.abs(wanted).max(initial=0)
        )


@halves
def test_the_model_computes_from_a_copy(half):
    layer = nn.Linear(3, 2)
    space = nn.FlatSpace(layer, half=HALVES[half])
    space.initialise(1)
    assert layer.weight.value.dtype == HALVES[half]
    space.parameters += 1
    kept = np.array(layer.weight.value)
    space.refresh()
    weight = space.state_dict()["weight"]
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(layer.weight.value, weight.astype(HALVES[half]))
    assert (layer.weight.value != kept).all()


@halves
def test_a_small_change_is_not_lost(half):
    layer = nn.Linear(1, 1, bias=False)
    space = nn.FlatSpace(layer, half=HALVES[half])
    space.load_state_dict({"weight": np.ones((1, 1), np.float32)})
    for _ in range(1000):
        space.parameters += np.float32(1e-5)  # less than a half of these numbers can tell from 1
        space.refresh()
    assert float(layer.weight.value[0, 0]) == pytest.approx(1.01, rel=4e-3)


def test_sums_of_halves_are_float32():
    layer = nn.Linear(1, 1)
    nn.FlatSpace(layer, half=np.dtype(np.float16)).initialise(0)
    layer.forward(np.ones((4096, 1), np.float16), Phase(True, RNG))
    layer.backward(np.ones((4096, 1), np.float16), lambda _: None)
    assert layer.bias.grad[0] == 4096  # float16 does not count beyond 2048
    norm = nn.LayerNorm(4096)
    nn.FlatSpace(norm, half=np.dtype(np.float16)).initialise(0)
    wide = np.full((1, 4096), 300, np.float16)  # whose squares are beyond float16
    wide[0, ::2] = -300
    np.testing.assert_allclose(norm.forward(wide, Phase(True, RNG)), wide / 300, rtol=1e-3)
