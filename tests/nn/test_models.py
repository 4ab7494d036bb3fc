"""Every built-in model learns what it is made for, in both precisions."""

import numpy as np
import pytest

from mpimlsys import nn, optim
from mpimlsys.types import Phase

RNG = np.random.default_rng(2)
TABLE = RNG.normal(size=(40, 6))
CLASSES = (TABLE[:, 0] > 0).astype(np.int64)
PICTURES = RNG.normal(size=(20, 1, 16, 20))
IDS = np.tile(np.arange(5), (8, 4))
CASES = {
    "linear": (TABLE, TABLE @ RNG.normal(size=(6, 2)), 2, {}),
    "linear on pictures": (PICTURES, RNG.normal(size=(20, 1)), 1, {}),
    "logistic": (TABLE, CLASSES, 2, {}),
    "logistic of three": (TABLE, CLASSES + (TABLE[:, 1] > 1), 3, {}),
    "mlp": (TABLE, CLASSES, 2, {"hidden": [8, 4], "activation": "tanh", "dropout": 0.1}),
    "cnn": (PICTURES, np.arange(20) % 3, 3, {"dropout": 0.0}),
    "char_rnn": (IDS[:, :-1], IDS[:, 1:], 5, {"hidden": [8], "embedding": 4}),
    "char_lstm": (IDS[:, :-1], IDS[:, 1:], 5, {"hidden": [8], "embedding": 4, "layers": 2}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_the_loss_goes_down(case, dtype):
    inputs, targets, outputs, options = CASES[case]
    if inputs.dtype.kind == "f":
        inputs = inputs.astype(dtype)
    model = nn.models.build(case.split()[0], inputs.shape[1:], outputs, options)
    space = nn.FlatSpace(model, dtype)
    space.initialise(1)
    optimizer = optim.adam(0.02)
    optimizer.bind(space.parameters, space.segments)
    losses = []
    for _ in range(60):
        space.zero_gradients()
        space.reset()
        scores = model.forward(inputs, Phase(True, RNG))
        value, gradient = model.loss(scores, targets, len(inputs))
        assert gradient.dtype == dtype
        model.backward(gradient, space.ready)
        assert space.missing() == []
        optimizer.step(space.parameters, space.gradients, optimizer.lr)
        losses.append(value)
    assert losses[-1] < 0.7 * losses[0]
