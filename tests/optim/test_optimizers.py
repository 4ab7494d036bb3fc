"""Optimisers and clipping equal PyTorch's; state goes round; parts equal the whole."""

import numpy as np
import pytest

from mpimlsys import optim
from mpimlsys.errors import ConfigError
from mpimlsys.types import Segment

STEPS = 50
SHAPES = [(7, 5), (5,), (40_000,), (3, 1)]
SEGMENTS = []
for _shape in SHAPES:
    _start = SEGMENTS[-1].stop if SEGMENTS else 0
    SEGMENTS.append(Segment(str(len(SEGMENTS)), _start, _start + int(np.prod(_shape))))
COUNT = SEGMENTS[-1].stop
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)

PAIRS = {
    "sgd": (lambda: optim.sgd(0.1), "SGD", {"lr": 0.1}),
    "sgd decay": (
        lambda: optim.sgd(0.1, weight_decay=0.02),
        "SGD",
        {"lr": 0.1, "weight_decay": 0.02},
    ),
    "momentum": (lambda: optim.sgd(0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (
        lambda: optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    "adam": (lambda: optim.adam(0.01), "Adam", {"lr": 0.01}),
    "adam decay": (
        lambda: optim.adam(0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
    ),
    "adamw": (lambda: optim.adamw(0.01), "AdamW", {"lr": 0.01, "weight_decay": 0.01}),
}


def gradients(dtype, steps=STEPS):
    rng = np.random.default_rng(0)
    return [rng.normal(size=COUNT).astype(dtype) for _ in range(steps)]


def start(dtype):
    return np.random.default_rng(1).normal(size=COUNT).astype(dtype)


def run(optimizer, dtype, steps, lr=None):
    parameters = start(dtype)
    optimizer.bind(parameters, SEGMENTS)
    for gradient in steps:
        kept = gradient.copy()
        optimizer.step(parameters, gradient, lr or optimizer.lr)
        np.testing.assert_array_equal(gradient, kept)
    return parameters


def close(found, wanted, dtype):
    assert found.dtype == dtype
    assert np.linalg.norm(found - wanted) <= TOLERANCE[dtype] * np.linalg.norm(wanted)


class TestAgainstTorch:
    torch = None

    @pytest.fixture(autouse=True)
    def _torch(self):
        reason = "PyTorch is not installed (pip install torch==2.13.0): nothing was compared"
        type(self).torch = pytest.importorskip("torch", reason=reason)

    @dtypes
    @pytest.mark.parametrize("name", PAIRS)
    def test_fifty_steps(self, name, dtype):
        make, theirs, options = PAIRS[name]
        tensors = [
            self.torch.from_numpy(start(dtype)[s.start : s.stop].copy()).requires_grad_()
            for s in SEGMENTS
        ]
        other = getattr(self.torch.optim, theirs)(tensors, **options)
        for gradient in gradients(dtype):
            for segment, tensor in zip(SEGMENTS, tensors, strict=True):
                part = gradient[segment.start : segment.stop]
                tensor.grad = self.torch.from_numpy(part.copy())
            other.step()
        wanted = np.concatenate([tensor.detach().numpy() for tensor in tensors])
        close(run(make(), dtype, gradients(dtype)), wanted, dtype)

    @dtypes
    @pytest.mark.parametrize("limit", [0.5, 1e6])
    def test_clipping(self, dtype, limit):
        gradient = gradients(dtype, 1)[0]
        tensor = self.torch.zeros(COUNT, dtype=getattr(self.torch, dtype)).requires_grad_()
        tensor.grad = self.torch.from_numpy(gradient.copy())
        wanted = self.torch.nn.utils.clip_grad_norm_([tensor], limit)
        norm = optim.clip_by_global_norm(gradient, limit)
        assert norm == pytest.approx(float(wanted), rel=TOLERANCE[dtype])
        close(gradient, tensor.grad.numpy(), dtype)

    @pytest.mark.parametrize(
        ("ours", "theirs", "options"),
        [
            (optim.step(7, 0.3), "StepLR", {"step_size": 7, "gamma": 0.3}),
            (optim.cosine(50, floor=0.1), "CosineAnnealingLR", {"T_max": 50, "eta_min": 0.1}),
            (
                optim.warmup(10, optim.constant()),
                "LinearLR",
                {"start_factor": 0.1, "total_iters": 9},
            ),
        ],
    )
    def test_schedules(self, ours, theirs, options):
        tensor = self.torch.zeros(1).requires_grad_()
        other = self.torch.optim.SGD([tensor], lr=1.0)
        schedule = getattr(self.torch.optim.lr_scheduler, theirs)(other, **options)
        for at in range(50):
            assert ours(at) == pytest.approx(other.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
            other.step()
            schedule.step()


@dtypes
def test_lamb_is_the_algorithm_of_the_paper(dtype):
    """You et al. 2020, algorithm 2, written down a second time."""
    beta1, beta2, eps, decay, lr = 0.9, 0.999, 1e-6, 0.01, 0.02
    weights = [start("float64")[s.start : s.stop] for s in SEGMENTS]
    means = [np.zeros_like(w) for w in weights]
    squares = [np.zeros_like(w) for w in weights]
    for t, gradient in enumerate(gradients("float64"), start=1):
        for i, segment in enumerate(SEGMENTS):
            g = gradient[segment.start : segment.stop]
            means[i] = beta1 * means[i] + (1 - beta1) * g
            squares[i] = beta2 * squares[i] + (1 - beta2) * g * g
            r = means[i] / (1 - beta1**t) / (np.sqrt(squares[i] / (1 - beta2**t)) + eps)
            r = r + decay * weights[i]
            weights[i] = weights[i] - lr * np.linalg.norm(weights[i]) / np.linalg.norm(r) * r
    found = run(optim.lamb(lr), dtype, gradients(dtype))
    wanted = np.concatenate(weights)
    assert np.linalg.norm(found - wanted) <= TOLERANCE[dtype] * 10 * np.linalg.norm(wanted)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw", "lamb"])
def test_a_restart_continues_bit_for_bit(name):
    whole = run(optim.from_name(name, 0.01), "float32", gradients("float32"))
    first = optim.from_name(name, 0.01)
    parameters = run(first, "float32", gradients("float32")[:20])
    state = {key: value.copy() for key, value in first.state_dict().items()}
    second = optim.from_name(name, 0.01)
    second.bind(parameters, SEGMENTS)
    second.load_state_dict(state)
    for gradient in gradients("float32")[20:]:
        second.step(parameters, gradient, 0.01)
    np.testing.assert_array_equal(parameters, whole)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "adamw"])
def test_a_part_equals_the_part_of_the_whole(name):
    """So that a parameter server can own a range."""
    whole = run(optim.from_name(name, 0.01, weight_decay=0.1), "float32", gradients("float32", 9))
    part = slice(13, 35_001)
    parameters = start("float32")[part].copy()
    optimizer = optim.from_name(name, 0.01, weight_decay=0.1)
    optimizer.bind(parameters, [Segment("part", 0, len(parameters))])
    for gradient in gradients("float32", 9):
        optimizer.step(parameters, gradient[part].copy(), 0.01)
    np.testing.assert_array_equal(parameters, whole[part])


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_what_is_not_to_decay_does_not(name):
    parameters = np.ones(10)
    optimizer = optim.from_name(name, 0.1, weight_decay=0.5)
    optimizer.bind(parameters, [Segment("w", 0, 6), Segment("b", 6, 10, decay=False)])
    optimizer.step(parameters, np.zeros(10), 0.1)
    assert (parameters[:6] < 1).all()
    assert (parameters[6:] == 1).all()


def test_warm_up_precedes_the_schedule():
    schedule = optim.warmup(4, optim.cosine(10))
    assert [schedule(at) for at in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert schedule(14) == pytest.approx(0)
    assert optim.warmup(0, optim.step(2, 0.5))(3) == 0.5


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: optim.from_name("adm", 0.1), "Did you mean 'adam'?"),
        (lambda: optim.from_name("adam", 0.1, momentum=0.9), "optimizer.momentum does not apply"),
        (lambda: optim.sgd(-1.0), "must be at least 0"),
        (lambda: optim.sgd(float("nan")), "must be at least 0"),
        (lambda: optim.sgd(0.1, momentum=1.0), "from 0 to below 1"),
        (lambda: optim.sgd(0.1, nesterov=True), "needs a momentum"),
        (lambda: optim.adam(0.1, betas=(0.9, 1.0)), "must be from 0 to below 1"),
    ],
)
def test_mistakes_are_explained(act, message):
    with pytest.raises(ConfigError) as error:
        act()
    assert message in str(error.value)


def test_a_state_of_another_optimiser_is_refused():
    parameters = np.zeros(4)
    first, second = optim.sgd(0.1, momentum=0.9), optim.adam(0.1)
    first.bind(parameters, [Segment("w", 0, 4)])
    second.bind(parameters, [Segment("w", 0, 4)])
    with pytest.raises(ConfigError, match="belongs to another optimiser"):
        second.load_state_dict(first.state_dict())
    with pytest.raises(ConfigError, match="has 3 elements, not 4"):
        first.load_state_dict({"momentum": np.zeros(3), "steps": np.array(1)})
