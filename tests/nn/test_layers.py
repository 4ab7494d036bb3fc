"""Gradients by finite differences, empty batches, dropout, clear errors, initialisation."""

import numpy as np
import pytest

from mpimlsys import nn
from mpimlsys.errors import ConfigError
from mpimlsys.types import Phase

RNG = np.random.default_rng(11)
LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (5, 4)),
    "conv": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 2, 6, 5)),
    "pool": (lambda: nn.MaxPool2d(2), (2, 2, 6, 5)),
    "flatten": (lambda: nn.Flatten(), (2, 3, 2)),
    "relu": (lambda: nn.ReLU(), (3, 4)),
    "tanh": (lambda: nn.Tanh(), (3, 4)),
    "sigmoid": (lambda: nn.Sigmoid(), (3, 4)),
    "dropout": (lambda: nn.Dropout(0.4), (3, 40)),
    "layer norm": (lambda: nn.LayerNorm(6), (2, 3, 6)),
    "rnn": (lambda: nn.RNN(3, 4), (2, 5, 3)),
    "lstm": (lambda: nn.LSTM(3, 4), (2, 5, 3)),
    "sequential": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), (3, 4)),
}


def phase(training=True):
    return Phase(training, np.random.default_rng(0))


def ignore(_):
    pass


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_finite_differences(name):
    make, shape = LAYERS[name]
    layer = make()
    inputs = RNG.normal(size=shape)
    arrays, gradients = [inputs], []
    if list(layer.named_parameters()):
        space = nn.FlatSpace(layer, "float64")
        space.initialise(3)
        arrays.append(space.parameters)
    weights = RNG.normal(size=layer.forward(inputs, phase()).shape)

    def value():
        return float((layer.forward(inputs, phase()) * weights).sum())

    value()
    gradients.append(np.array(layer.backward(weights, ignore)))
    if len(arrays) == 2:
        gradients.append(space.gradients)
    for array, gradient in zip(arrays, gradients, strict=True):
        flat = array.reshape(-1)
        for index in RNG.choice(flat.size, min(flat.size, 40), replace=False):
            kept, step = flat[index], 1e-6
            flat[index] = kept + step
            above = value()
            flat[index] = kept - step
            below = value()
            flat[index] = kept
            slope = (above - below) / (2 * step)
            assert gradient.reshape(-1)[index] == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch_passes_through(name):
    make, shape = LAYERS[name]
    layer = make()
    if list(layer.named_parameters()):
        nn.FlatSpace(layer, "float32").initialise(0)
    full = layer.forward(np.zeros(shape, np.float32), phase())
    empty = np.zeros((0, *shape[1:]), np.float32)
    outputs = layer.forward(empty, phase())
    assert outputs.shape == (0, *full.shape[1:])
    assert layer.backward(outputs, ignore).shape == empty.shape


def test_dropout_keeps_the_mean_and_rests_in_evaluation():
    layer, x = nn.Dropout(0.3), np.ones((200, 500), np.float32)
    dropped = layer.forward(x, phase())
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert dropped.dtype == np.float32
    assert layer.forward(x, phase(training=False)) is x
    np.testing.assert_array_equal(layer.backward(x, ignore), x)


def test_the_first_convolution_may_skip_its_input_gradient():
    both = [nn.Conv2d(1, 4, 3, input_gradient=flag) for flag in (True, False)]
    spaces = []
    for layer in both:
        spaces.append(nn.FlatSpace(layer, "float64"))
        spaces[-1].initialise(2)
        outputs = layer.forward(RNG.normal(size=(2, 1, 6, 6)) * 0 + 1, phase())
        layer.backward(np.ones_like(outputs), ignore)
    np.testing.assert_array_equal(spaces[0].gradients, spaces[1].gradients)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: nn.Dropout(1.0), "give a probability"),
        (lambda: nn.models.build("cn", (1, 28, 28), 10, {}), "Did you mean 'cnn'?"),
        (lambda: nn.models.build("cnn", (1, 28, 28), 10, {"hidden": [3]}), "model.hidden does not"),
        (lambda: nn.models.build("linear", (3,), 1, {"hidden": [3]}), "It has no options"),
        (lambda: nn.models.build("cnn", (13,), 10, {}), "needs pictures of at least 16x16"),
        (lambda: nn.models.build("char_lstm", (1, 28, 28), 10, {}), "needs text"),
        (lambda: nn.models.build("mlp", (4,), 3, {"activation": "rely"}), "Did you mean 'relu'?"),
        (lambda: nn.models.build("mlp", (4,), 3, {"hidden": [0]}), "must be at least 1"),
        (lambda: nn.CrossEntropyLoss()(np.zeros((2, 3)), np.array([0, 3]), 2), "a label of 3, but"),
        (lambda: nn.CrossEntropyLoss()(np.zeros((2, 3)), np.array([0, -1]), 2), "a label of -1"),
        (
            lambda: nn.CrossEntropyLoss()(np.zeros((2, 3)), np.array([0.0, 1.0]), 2),
            "needs integers",
        ),
        (lambda: nn.BCEWithLogitsLoss()(np.zeros((2, 1)), np.array([0, 2]), 2), "a label of 2"),
        (lambda: nn.MSELoss()(np.zeros((2, 3)), np.zeros(2), 2), "use a model of 1 outputs"),
        (lambda: nn.Linear(3, 2).forward(np.zeros((4, 5)), phase()), "of 3 inputs got 5"),
        (lambda: nn.Linear(3, 2).forward(np.zeros((4, 3)), phase()), "no memory yet"),
        (
            lambda: nn.Conv2d(1, 2, 5).forward(np.zeros((1, 1, 3, 3)), phase()),
            "smaller than the kernel",
        ),
        (lambda: nn.FlatSpace(nn.ReLU()), "has no parameters to train"),
        (
            lambda: nn.Embedding(3, 2).forward(np.ones((2, 4), np.float32), phase()),
            "rows of an embedding are named by integers, not float32",
        ),
    ],
)
def test_mistakes_are_explained(act, message):
    with pytest.raises(ConfigError) as error:
        act()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        (nn.init.xavier_uniform(), (2 / 500) ** 0.5),
        (nn.init.xavier_normal(), (2 / 500) ** 0.5),
        (nn.init.kaiming_uniform(), (2 / 300) ** 0.5),
        (nn.init.kaiming_normal(), (2 / 300) ** 0.5),
        (nn.init.normal(0.02), 0.02),
        (nn.init.uniform(0.3), 0.3 / 3**0.5),
    ],
)
def test_initialisation_has_its_variance(scheme, std):
    values = scheme(np.random.default_rng(0), (200, 300))
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std


def test_orthogonal_initialisation():
    for shape in ((6, 4), (4, 6), (5, 5)):
        q = nn.init.orthogonal()(np.random.default_rng(0), shape)
        gram = q.T @ q if shape[0] >= shape[1] else q @ q.T
        np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-12)


class TestFlatSpace:
    def model(self):
        return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3), nn.Linear(3, 2))

    def test_layout_follows_backward_and_buckets_cover_everything(self):
        space = nn.FlatSpace(self.model(), bucket_bytes=80)
        names = [segment.name for segment in space.segments]
        assert names == ["3.bias", "3.weight", "2.bias", "2.weight", "0.bias", "0.weight"]
        edges = [0, *(bucket.stop for bucket in space.buckets)]
        assert [bucket.start for bucket in space.buckets] == edges[:-1]
        assert edges[-1] == space.parameters.size == 40 + 18 + 8
        assert len(space.buckets) > 1
        assert all(np.shares_memory(bucket.gradient, space.gradients) for bucket in space.buckets)

    def test_a_bucket_is_ready_with_its_last_parameter(self):
        model = self.model()
        space = nn.FlatSpace(model, bucket_bytes=80)
        space.initialise(0)
        for _ in range(2):
            space.reset()
            order = []

            def ready(parameter, order=order):
                bucket = space.ready(parameter)
                if bucket is not None:
                    order.append(bucket.index)

            outputs = model.forward(np.ones((2, 7), np.float32), phase())
            model.backward(outputs, ready)
            assert order == list(range(len(space.buckets)))
            assert space.missing() == []

    def test_reports_are_checked(self):
        model = self.model()
        space = nn.FlatSpace(model)
        parameter = next(model.named_parameters())[1]
        space.ready(parameter)
        assert "0.bias" in space.missing()
        with pytest.raises(ConfigError, match=r"'0.weight' twice"):
            space.ready(parameter)
        with pytest.raises(ConfigError, match="not part of this model"):
            space.ready(nn.Parameter((1,), nn.init.zeros()))

    def test_initialisation_depends_on_the_seed_alone(self):
        digests = []
        for seed, bucket_bytes in ((1, 80), (1, 1 << 20), (2, 80)):
            space = nn.FlatSpace(self.model(), bucket_bytes=bucket_bytes)
            space.initialise(seed)
            digests.append(space.digest())
        assert digests[0] == digests[1] != digests[2]

    def test_state_goes_round_and_is_checked(self):
        space, other = nn.FlatSpace(self.model()), nn.FlatSpace(self.model())
        space.initialise(1)
        other.initialise(2)
        other.load_state_dict({name: value.copy() for name, value in space.state_dict().items()})
        assert other.digest() == space.digest()
        state = space.state_dict()
        with pytest.raises(ConfigError, match=r"it lacks 0.bias"):
            other.load_state_dict({k: v for k, v in state.items() if k != "0.bias"})
        with pytest.raises(ConfigError, match="it has unknown extra"):
            other.load_state_dict({**state, "extra": np.zeros(1)})
        with pytest.raises(ConfigError, match=r"0.bias has shape \(4,\), here \(5,\)"):
            other.load_state_dict({**state, "0.bias": np.zeros(4)})
