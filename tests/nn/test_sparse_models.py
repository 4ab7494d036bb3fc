"""Models with rows at servers: their gradients, against finite differences."""

import numpy as np
import pytest

from mpimlsys.data.sparse import FEATURE
from mpimlsys.nn.served import ServedEmbedding
from mpimlsys.nn.space import FlatSpace
from mpimlsys.nn.sparse import MatrixFactorization, SparseLogistic, WideAndDeep
from mpimlsys.ps import Table
from mpimlsys.types import Phase

ROWS, SAMPLES = 12, 5


class Rows:
    """Rows here, and the gradients that came for them."""

    def __init__(self, width, seed):
        self.values = np.random.default_rng(seed).normal(0, 0.5, (ROWS, width))
        self.gradients = np.zeros((ROWS, width))

    def fetch_rows(self, _, rows, width):
        assert width == self.values.shape[1]
        return self.values[rows]

    def add_rows(self, _, rows, gradients, __):
        assert len(np.unique(rows)) == len(rows)
        self.gradients[rows] += gradients


def layer(name, width, seed):
    served = ServedEmbedding(Table(name, ROWS, width=width))
    served.attach(rows := Rows(width, seed))
    return served, rows


def logistic():
    served, rows = layer("w", 1, 1)
    return SparseLogistic(served), [rows], np.array([[0.0], [1], [1], [0], [1]])


def factors():
    served, rows = layer("f", 4, 2)
    return MatrixFactorization(served, l2=0.0), [rows], np.array([[3.0], [1], [5], [2], [4]])


def wide_and_deep():
    wide, deep = layer("wide", 3, 3), layer("deep", 4, 4)
    model = WideAndDeep(wide[0], deep[0], fields=2, width=4, outputs=3, hidden=[6])
    return model, [wide[1], deep[1]], np.array([0, 2, 1, 1, 2])


@pytest.mark.parametrize("make", [logistic, factors, wide_and_deep])
def test_gradients_are_those_of_finite_differences(make):
    model, stores, targets = make()
    space = FlatSpace(model, dtype="float64")
    space.initialise(7)
    random = np.random.default_rng(5)
    inputs = np.zeros((SAMPLES, 2), FEATURE)
    inputs["feature"] = random.integers(0, ROWS, inputs.shape)
    inputs["feature"][0] = 3  # twice the same
    inputs["value"] = 1 if make is not logistic else random.normal(size=inputs.shape)
    inputs["value"][4, 1] = 0
    phase = Phase(True, np.random.default_rng(0))

    def loss():
        return model.loss(model.forward(inputs, phase), targets, SAMPLES)

    model.backward(loss()[1], lambda _: None)
    step = 1e-3
    for rows in stores:
        for place in np.ndindex(*rows.values.shape):
            kept = rows.values[place]
            sides = []
            for value in (kept + step, kept - step):
                rows.values[place] = value
                sides.append(loss()[0])
            rows.values[place] = kept
            # rows get the sum over samples
            wanted = SAMPLES * (sides[0] - sides[1]) / (2 * step)
            assert rows.gradients[place] == pytest.approx(wanted, abs=2e-5)
    kept = space.parameters.copy()
    for at in range(space.parameters.size):
        sides = []
        for value in (kept[at] + step, kept[at] - step):
            space.parameters[at] = value
            sides.append(loss()[0])
        space.parameters[at] = kept[at]
        assert space.gradients[at] == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-5)


@pytest.mark.parametrize("make", [logistic, factors, wide_and_deep])
def test_there_may_be_no_sample(make):
    model, _, targets = make()
    FlatSpace(model, dtype="float32").initialise(1)
    outputs = model.forward(np.zeros((0, 2), FEATURE), Phase(False, np.random.default_rng(0)))
    assert outputs.shape == (0, 3 if make is wide_and_deep else targets.shape[1])


def test_l2_of_factors_is_that_of_each_rating():
    served, rows = layer("f", 3, 1)
    model = MatrixFactorization(served, l2=0.25)
    FlatSpace(model, dtype="float64").initialise(1)
    inputs = np.array([[(0, 1), (1, 1)], [(0, 1), (2, 0)]], FEATURE)
    model.forward(inputs, Phase(True, np.random.default_rng(0)))
    model.loss.samples = 2
    model.backward(np.zeros((2, 1)), lambda _: None)
    np.testing.assert_allclose(rows.gradients[0], 2 * 0.25 * 2 * rows.values[0], rtol=1e-6)
    np.testing.assert_allclose(rows.gradients[1], 2 * 0.25 * rows.values[1], rtol=1e-6)
    assert not rows.gradients[2:].any()
