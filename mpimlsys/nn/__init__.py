"""Layers, losses and models on NumPy and numba, or on CuPy; in float32, float64 or 16 bits."""

from mpimlsys.nn import init, models
from mpimlsys.nn.activation import Dropout, ReLU, Sigmoid, Tanh
from mpimlsys.nn.linear import Conv2d, Flatten, Linear, MaxPool2d
from mpimlsys.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from mpimlsys.nn.module import Module, Parameter, Sequential
from mpimlsys.nn.sequence import LSTM, RNN, Embedding, LayerNorm
from mpimlsys.nn.served import ServedEmbedding
from mpimlsys.nn.space import FlatSpace

__all__ = [
    "LSTM",
    "RNN",
    "BCEWithLogitsLoss",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "FlatSpace",
    "Flatten",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "ServedEmbedding",
    "Sigmoid",
    "Tanh",
    "init",
    "models",
]
