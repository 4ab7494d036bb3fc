"""A wide and deep model whose tables are at parameter servers: who likes what?

    mpirun -n 3 python examples/wide_and_deep.py ratings.csv

The file has a line `user,item,rating` for each rating; it may have a header and further columns,
and be gzipped. The model says whether a rating is at least 4. Features are the user, the item, and
the user together with how often the item is rated. Wide: a weight of each feature, FTRL with L1.
Deep: an embedding of each, and two layers on top (Cheng et al. 2016, "Wide & Deep Learning for
Recommender Systems"). A tenth of the ratings is kept aside. One rank is the server.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mpimlsys as mls
from mpimlsys import data, nn
from mpimlsys.errors import ConfigError

GROUPS = 10  # of items, by how often they are rated


class WideAndDeep(nn.Module):
    """Scores of the two answers, for (samples, fields) numbers of features."""

    loss = nn.CrossEntropyLoss()

    def __init__(self, features: int, fields: int, width: int = 16) -> None:
        wide = mls.ps.Table("wide", features, width=2, rule="ftrl", numbers={"l1": 0.002})
        deep = mls.ps.Table(
            "deep", features, width=width, rule="row_adagrad", initial="normal", scale=0.05
        )
        self.wide, self.deep = nn.ServedEmbedding(wide, lr=20), nn.ServedEmbedding(deep, lr=20)
        self.body = nn.Sequential(nn.Linear(fields * width, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x, phase):
        deep = self.deep.forward(x, phase)
        self._shape = deep.shape
        return self.wide.forward(x, phase).sum(axis=1) + self.body.forward(
            deep.reshape(len(x), -1), phase
        )

    def backward(self, grad, ready):
        self.deep.backward(self.body.backward(grad, ready).reshape(self._shape), ready)
        each = np.broadcast_to(grad[:, None], (*self._shape[:2], 2))
        return self.wide.backward(each, ready)


def dataset(features: np.ndarray, likes: np.ndarray) -> data.ArrayDataset:
    """Features stay integers."""
    return data.ArrayDataset(features, likes, dtype="int64")


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features of each rating, (n, 3), and whether it is at least 4, (n,)."""
    raw = np.genfromtxt(path, delimiter=",", usecols=(0, 1, 2))
    raw = raw[~np.isnan(raw).any(axis=1)]  # the header
    if not len(raw):
        raise ConfigError(f"{path} has no lines `user,item,rating`")
    users = np.unique(raw[:, 0], return_inverse=True)[1]
    _, items, counts = np.unique(raw[:, 1], return_inverse=True, return_counts=True)
    group = (np.argsort(np.argsort(counts)) * GROUPS // len(counts))[items]
    fields = [users, items, users * GROUPS + group]
    starts = np.cumsum([0, *(field.max() + 1 for field in fields[:-1])])
    features = np.stack(fields, axis=1) + starts
    return features, (raw[:, 2] >= 4).astype(np.int64)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=300)
    options = parser.parse_args()
    ctx = mls.init(mls.ClusterSection(servers=options.servers))
    if ctx.role == "server":
        mls.ps.serve()
        return
    features, likes = load(options.ratings)
    order = np.random.default_rng(0).permutation(len(likes))
    test, train = np.split(order, [len(likes) // 10])
    model = WideAndDeep(int(features.max()) + 1, features.shape[1])
    trainer = mls.Trainer(
        model,
        optimizer=mls.optim.adam(0.002),
        exchange=mls.exchange.ParameterServers(embeddings=[model.wide, model.deep]),
    )
    trainer.fit(
        dataset(features[train], likes[train]), epochs=options.epochs, batch_size=options.batch
    )
    result = trainer.evaluate(dataset(features[test], likes[test]))
    trainer.close()
    if ctx.is_root:
        print(
            f"accuracy {result.measure:.1%}, log-loss {result.loss:.4f} on {result.samples:,} "
            f"ratings; always the same answer: {max(likes.mean(), 1 - likes.mean()):.1%}"
        )


if __name__ == "__main__":
    main()
