"""The built-in models by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError, nearest
from mpimlsys.nn.activation import Dropout, ReLU, Sigmoid, Tanh
from mpimlsys.nn.linear import Conv2d, Flatten, Linear, MaxPool2d
from mpimlsys.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from mpimlsys.nn.module import Module, Sequential
from mpimlsys.nn.sequence import LSTM, RNN, Embedding

Shape = Sequence[int]


def build(name: str, inputs: Shape, outputs: int, options: Mapping[str, Any]) -> Module:
    """A built-in model with its loss.

    Args:
        name: a key of :data:`MODELS`.
        inputs: shape of one sample.
        outputs: classes, or numbers to predict.
        options: keyword arguments of the model's function.

    Raises:
        ConfigError: unknown name or option, or data of a shape that the model cannot take.
    """
    if name not in MODELS:
        raise ConfigError(
            f"model.name = {name!r} is unknown.{nearest(name, MODELS)} Your own: 'module:function'."
        )
    known = list(inspect.signature(MODELS[name]).parameters)[2:]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"model.{option} does not apply to the model {name!r}."
                + (nearest(option, known) if known else " It has no options.")
            )
    return MODELS[name](tuple(inputs), outputs, **options)


def linear(inputs: Shape, outputs: int) -> Module:
    """Linear regression with squared error."""
    return _with_loss(_stack(inputs, Linear(_width(inputs), outputs)), MSELoss())


def logistic(inputs: Shape, outputs: int) -> Module:
    """Logistic regression: one output for two classes, softmax for more."""
    if outputs <= 2:
        return _with_loss(_stack(inputs, Linear(_width(inputs), 1)), BCEWithLogitsLoss())
    return _with_loss(_stack(inputs, Linear(_width(inputs), outputs)), CrossEntropyLoss())


def mlp(
    inputs: Shape,
    outputs: int,
    hidden: Sequence[int] = (128,),
    activation: str = "relu",
    dropout: float = 0.0,
) -> Module:
    """Fully connected layers.

    Args:
        hidden: widths of the hidden layers.
        activation: ``"relu"``, ``"tanh"`` or ``"sigmoid"``.
        dropout: probability after each hidden layer.
    """
    kinds: dict[str, Callable[[], Module]] = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid}
    if activation not in kinds:
        raise ConfigError(
            f"model.activation = {activation!r} is unknown.{nearest(activation, kinds)}"
        )
    layers: list[Module] = []
    width = _width(inputs)
    for units in hidden:
        layers += [Linear(width, _positive("hidden", units)), kinds[activation]()]
        layers += [Dropout(dropout)] if dropout else []
        width = units
    return _with_loss(_stack(inputs, *layers, Linear(width, outputs)), CrossEntropyLoss())


def cnn(inputs: Shape, outputs: int, dropout: float = 0.25) -> Module:
    """Two convolutions of 5x5 with pooling, then two linear layers, for pictures as MNIST's.

    Args:
        dropout: probability before the last layer.

    Source:
        After LeNet-5: LeCun, Bottou, Bengio, Haffner 1998.
    """
    shape = tuple(inputs)
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape[1:]) < 16:
        raise ConfigError(
            f"the model 'cnn' needs pictures of at least 16x16 pixels, the data have the shape "
            f"{tuple(inputs)}; use 'mlp'."
        )
    channels, height, width = shape
    after = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
    return _with_loss(
        Sequential(
            Conv2d(channels, 10, 5, input_gradient=False),
            MaxPool2d(2),
            ReLU(),
            Conv2d(10, 20, 5),
            MaxPool2d(2),
            ReLU(),
            Flatten(),
            Linear(20 * after[0] * after[1], 50),
            ReLU(),
            Dropout(dropout),
            Linear(50, outputs),
        ),
        CrossEntropyLoss(),
    )


def char_rnn(
    inputs: Shape,
    outputs: int,
    hidden: Sequence[int] = (128,),
    layers: int = 1,
    embedding: int = 32,
) -> Module:
    """The next character by a recurrent network with tanh units.

    Args:
        hidden: width of the cells.
        layers: recurrent layers.
        embedding: width of a character's vector.
    """
    return _recurrent(RNN, inputs, outputs, hidden, layers, embedding)


def char_lstm(
    inputs: Shape,
    outputs: int,
    hidden: Sequence[int] = (128,),
    layers: int = 1,
    embedding: int = 32,
) -> Module:
    """The next character by a long short-term memory; arguments as :func:`char_rnn`."""
    return _recurrent(LSTM, inputs, outputs, hidden, layers, embedding)


MODELS: Mapping[str, Callable[..., Module]] = MappingProxyType(
    {
        "linear": linear,
        "logistic": logistic,
        "mlp": mlp,
        "cnn": cnn,
        "char_rnn": char_rnn,
        "char_lstm": char_lstm,
    }
)


def _recurrent(
    cell: Callable[[int, int], Module],
    inputs: Shape,
    outputs: int,
    hidden: Sequence[int],
    layers: int,
    embedding: int,
) -> Module:
    if len(inputs) != 1:
        raise ConfigError(
            f"a character model needs text, the data have samples of shape {tuple(inputs)}."
        )
    if len(hidden) != 1:
        raise ConfigError("model.hidden of a character model is one number, such as [128].")
    units = _positive("hidden", hidden[0])
    widths = [embedding] + [units] * layers
    cells = [cell(width, units) for width in widths[:-1]]
    model = Sequential(Embedding(outputs, embedding), *cells, Linear(units, outputs))
    return _with_loss(model, CrossEntropyLoss())


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"model.{name} = {value} must be at least 1.")
    return value


def _width(inputs: Shape) -> int:
    return int(np.prod(inputs))


def _stack(inputs: Shape, *layers: Module) -> Sequential:
    return Sequential(*([Flatten()] if len(inputs) != 1 else []), *layers)


def _with_loss(model: Module, loss: Any) -> Module:
    model.loss = loss
    return model
