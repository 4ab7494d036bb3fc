"""Logistic regression on sparse features with parameter servers: FTRL-proximal with L1.

    mpirun -n 4 python examples/sparse_logistic.py train.libsvm
    mpirun -n 4 python examples/sparse_logistic.py --generate 1000000

The file has a line `label index:value index:value ...` for each sample; labels are 0 or -1, and 1.
No worker holds the weights: a step pulls those of the features that its samples have, and L1 keeps
those that tell nothing exactly 0 (McMahan et al. 2013, "Ad Click Prediction"). A tenth of the
samples is kept aside to measure the loss. One rank is the server, the others are workers.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import mpimlsys as mls
from mpimlsys.errors import ConfigError


@dataclass(frozen=True)
class Samples:
    """Rows of a sparse matrix, one after the other, and their labels.

    Attributes:
        labels: (n,) 0 or 1.
        starts: (n + 1,) where each sample's features begin.
        features, values: of all samples.
    """

    labels: np.ndarray
    starts: np.ndarray
    features: np.ndarray
    values: np.ndarray

    def part(self, first: int, last: int) -> Samples:
        """Some samples that follow one another."""
        starts = self.starts[first : last + 1]
        inside = slice(starts[0], starts[-1])
        return Samples(
            self.labels[first:last], starts - starts[0], self.features[inside], self.values[inside]
        )

    @property
    def owners(self) -> np.ndarray:
        """The sample of each feature."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.starts))


def load(path: Path) -> Samples:
    """Samples of a libsvm file."""
    labels, starts, features, values = [], [0], [], []
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            fields = line.split("#")[0].split()
            if not fields:
                continue
            try:
                labels.append(float(fields[0]) > 0)
                pairs = [field.split(":") for field in fields[1:]]
                features.extend(int(index) for index, _ in pairs)
                values.extend(float(value) for _, value in pairs)
            except ValueError:
                raise ConfigError(
                    f"{path}, line {number}: not `label index:value ...`: {line.strip()[:60]!r}"
                ) from None
            starts.append(len(features))
    if not labels or min(features, default=0) < 0:
        raise ConfigError(f"{path} has no samples, or features below 0")
    return Samples(
        np.array(labels, np.float32),
        np.array(starts),
        np.array(features, np.uint64),
        np.array(values, np.float32),
    )


def generate(count: int, samples: int, each: int = 20) -> tuple[Samples, np.ndarray]:
    """Samples of which half of the features tell nothing; and which of all do tell something."""
    random = np.random.default_rng(1)
    used = random.permutation(count)[: count // 100]
    weights = np.zeros(count, np.float32)
    weights[used] = random.normal(0, 1.5, len(used))
    telling = used[random.integers(0, len(used), (samples, each))]
    idle = np.setdiff1d(np.arange(count), used)[
        random.integers(0, count - len(used), (samples, each))
    ]
    features = np.hstack([telling, idle])
    margins = weights[telling].sum(axis=1)
    labels = random.random(samples) < 1 / (1 + np.exp(-margins))
    return Samples(
        labels.astype(np.float32),
        np.arange(samples + 1) * 2 * each,
        features.reshape(-1).astype(np.uint64),
        np.ones(samples * 2 * each, np.float32),
    ), used


def log_loss(margins: np.ndarray, labels: np.ndarray) -> float:
    """The mean, in nats."""
    return float(np.mean(np.logaddexp(0, margins) - labels * margins))


def margins_of(samples: Samples, weights: np.ndarray) -> np.ndarray:
    """Of each sample; weights are of each of its features."""
    return np.bincount(
        samples.owners, weights=weights * samples.values, minlength=len(samples.labels)
    )


def step(client: mls.ps.Client, samples: Samples, lr: float) -> None:
    """Pull the weights that some samples need, and push their gradients."""
    rows, places = np.unique(samples.features, return_inverse=True)
    weights = np.empty((len(rows), 1), np.float32)
    client.pull_rows("weights", rows, weights)
    client.settle()
    margins = margins_of(samples, weights[places, 0])
    error = 1 / (1 + np.exp(-margins)) - samples.labels
    gradients = np.bincount(
        places, weights=error[samples.owners] * samples.values, minlength=len(rows)
    )
    sent = gradients.astype(np.float32)[:, None]
    client.push_rows("weights", rows, sent, lr=lr)
    client.settle()


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--generate", type=int, metavar="FEATURES", default=1_000_000)
    parser.add_argument("--samples", type=int, default=200_000, help="to generate")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=3000, help="samples in a step of all workers")
    parser.add_argument("--lr", type=float, default=0.3, help="alpha of FTRL")
    parser.add_argument("--l1", type=float, default=4.0)
    options = parser.parse_args()
    ctx = mls.init(mls.ClusterSection(servers=options.servers))
    if ctx.role == "server":
        mls.ps.serve()
        return
    used = None
    if options.file:
        samples = load(options.file)
        count = int(samples.features.max(initial=0)) + 1
    else:
        count = options.generate
        samples, used = generate(count, options.samples)
    kept = len(samples.labels) // 10
    test, train = samples.part(0, kept), samples.part(kept, len(samples.labels))
    client = mls.ps.Client(
        [mls.ps.Table("weights", count, width=1, rule="ftrl", numbers={"l1": options.l1})]
    )
    weights = np.zeros(count, np.float32)
    for epoch in range(options.epochs):
        for start in range(0, len(train.labels), options.batch):
            batch = train.part(start, min(start + options.batch, len(train.labels)))
            first, last = (
                len(batch.labels) * rank // ctx.group.size
                for rank in (ctx.group.rank, ctx.group.rank + 1)
            )
            step(client, batch.part(first, last), options.lr)
        with client.snapshot("weights") as snapshot:
            for rows, values in snapshot:
                weights[rows] = values[:, 0]
        if ctx.group.rank == 0:
            loss = log_loss(margins_of(test, weights[test.features]), test.labels)
            line = f"epoch {epoch + 1}: log-loss {loss:.4f}, {np.mean(weights == 0):.1%} zeros"
            if used is not None:
                idle = np.ones(count, bool)
                idle[used] = False
                line += f", of what tells nothing {np.mean(weights[idle] == 0):.1%}"
            print(line, flush=True)
    client.close()


if __name__ == "__main__":
    main()
