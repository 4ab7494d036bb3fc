"""Training throughput of the built-in ``cnn`` on pictures of MNIST's shape, beside PyTorch.

Both train the same network on the same random batch in one process, in turn, so that a busy
machine disturbs both alike; the ratio is the median of the ratios of neighbouring measurements.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np
import threadpoolctl

from mpimlsys import config, nn, optim
from mpimlsys.types import Phase

_WARMUP = 5
Step = Callable[[], None]


def run(*, batch: int, threads: int, repeats: int, as_json: bool) -> int:
    """Measure and print; returns the exit status."""
    result = measure(batch=batch, threads=threads, repeats=repeats)
    if as_json:
        print(json.dumps(result))
        return 0
    print(f"cnn, batch {batch}, {threads} thread(s), float32, {result['machine']}")
    for name, part in result["parts"].items():
        print(f"  {name}")
        for engine in ("mpimlsys", "pytorch"):
            if engine in part:
                low, high = part[engine]["quartiles"]
                print(
                    f"    {engine:<10}{part[engine]['images_per_s']:>10,.0f} images/s"
                    f"   (middle half {low:,.0f} to {high:,.0f})"
                )
        if "ratio" in part:
            print(f"    ratio     {part['ratio']:>10.2f}")
    if "note" in result:
        print(f"  {result['note']}")
    return 0


def measure(*, batch: int = 64, threads: int = 1, repeats: int = 60) -> dict[str, Any]:
    """Images per second of one rank, forward and backward alone and the whole step.

    Args:
        batch: images per step.
        threads: for matrix products, of both.
        repeats: measurements of each, interleaved.

    Returns:
        ``parts`` has ``forward_backward`` and ``step``; each has ``mpimlsys`` and, where PyTorch
        is installed, ``pytorch`` with ``images_per_s`` (median) and ``quartiles``, and ``ratio``,
        the median of the paired ratios.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, 1, 28, 28)).astype(np.float32)
    labels = rng.integers(0, 10, batch)
    with threadpoolctl.threadpool_limits(threads, user_api="blas"):
        engines = {"mpimlsys": _ours(images, labels)}
        if importlib.util.find_spec("torch") is not None:
            engines["pytorch"] = _torch(images, labels, threads)
        parts = {
            part: _compare({name: steps[part] for name, steps in engines.items()}, batch, repeats)
            for part in ("forward_backward", "step")
        }
    result: dict[str, Any] = {
        "benchmark": "train",
        "model": "cnn",
        "batch": batch,
        "threads": threads,
        "repeats": repeats,
        "machine": config.processor(),
        "parts": parts,
    }
    if "pytorch" not in engines:
        result["note"] = "PyTorch is not installed (pip install torch): nothing to compare with"
    return result


def _compare(steps: dict[str, Step], batch: int, repeats: int) -> dict[str, Any]:
    for step in steps.values():
        for _ in range(_WARMUP):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats):
        # the order alternates, so that neither always follows the other's cache
        for name in sorted(steps, reverse=bool(repeat % 2)):
            started = perf_counter()
            steps[name]()
            seconds[name].append(perf_counter() - started)
    result: dict[str, Any] = {}
    for name, times in seconds.items():
        low, _, high = quantiles(times, n=4)
        result[name] = {
            "images_per_s": batch / median(times),
            "quartiles": [batch / high, batch / low],
        }
    if "pytorch" in seconds:
        pairs = zip(seconds["pytorch"], seconds["mpimlsys"], strict=True)
        result["ratio"] = median(theirs / ours for theirs, ours in pairs)
    return result


def _ours(images: Any, labels: Any) -> dict[str, Step]:
    model = nn.models.build("cnn", images.shape[1:], 10, {"dropout": 0.0})
    space = nn.FlatSpace(model)
    space.initialise(0)
    optimizer = optim.sgd(0.01, momentum=0.9)
    optimizer.bind(space.parameters, space.segments)
    phase = Phase(True, np.random.default_rng(0))

    def forward_backward() -> None:
        space.zero_gradients()
        space.reset()
        _, gradient = model.loss(model.forward(images, phase), labels, len(images))
        model.backward(gradient, space.ready)

    def step() -> None:
        forward_backward()
        optimizer.step(space.parameters, space.gradients, optimizer.lr)

    return {"forward_backward": forward_backward, "step": step}


def _torch(images: Any, labels: Any, threads: int) -> dict[str, Step]:
    import torch

    torch.set_num_threads(threads)
    layers = torch.nn
    model = layers.Sequential(
        layers.Conv2d(1, 10, 5),
        layers.MaxPool2d(2),
        layers.ReLU(),
        layers.Conv2d(10, 20, 5),
        layers.MaxPool2d(2),
        layers.ReLU(),
        layers.Flatten(),
        layers.Linear(320, 50),
        layers.ReLU(),
        layers.Linear(50, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    criterion = layers.CrossEntropyLoss()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def forward_backward() -> None:
        optimizer.zero_grad()
        criterion(model(x), y).backward()

    def step() -> None:
        forward_backward()
        optimizer.step()

    return {"forward_backward": forward_backward, "step": step}
