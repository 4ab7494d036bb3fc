"""Factorise ratings with parameter servers: only the rows that a step touches travel.

    mpirun -n 4 python examples/matrix_factorization.py ratings.csv

The file has a line `user,item,rating` for each rating; it may have a header and further columns,
and be gzipped. A rating is predicted as mean + bias of the user + bias of the item + the product of
their factors (Koren et al. 2009, "Matrix Factorization Techniques for Recommender Systems"). A
tenth of the ratings is kept aside to measure the error. One rank is the server, the others are
workers; the result does not depend on how many there are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mpimlsys as mls
from mpimlsys.errors import ConfigError


def load(path: Path) -> np.ndarray:
    """Ratings of a file: users and items numbered from 0, (n, 3) float64."""
    raw = np.genfromtxt(path, delimiter=",", usecols=(0, 1, 2))
    raw = raw[~np.isnan(raw).any(axis=1)]  # the header
    if not len(raw):
        raise ConfigError(f"{path} has no lines `user,item,rating`")
    for column in (0, 1):
        raw[:, column] = np.unique(raw[:, column], return_inverse=True)[1]
    return raw


class Side:
    """What a step needs of the users or of the items: rows of factors, and a bias as the last."""

    def __init__(self, client: mls.ps.Client, table: str, indices: np.ndarray) -> None:
        self._client, self._table = client, table
        self.rows, self._places = np.unique(indices.astype(np.uint64), return_inverse=True)
        self._values = np.empty((len(self.rows), client.tables[client.number(table)].width), "f4")
        client.pull_rows(table, self.rows, self._values)

    def values(self) -> np.ndarray:
        """Of each rating of the batch."""
        return self._values[self._places]

    def push(self, gradients: np.ndarray, lr: float) -> np.ndarray:
        """Send the gradients, summed by row; what must stay until they have gone."""
        sums = np.zeros_like(self._values)
        np.add.at(sums, self._places, gradients)
        self._client.push_rows(self._table, self.rows, sums, lr=lr)
        return sums


def step(client: mls.ps.Client, batch: np.ndarray, mean: float, lr: float, l2: float) -> None:
    """Pull what some ratings need, and push their gradients."""
    users, items = Side(client, "users", batch[:, 0]), Side(client, "items", batch[:, 1])
    client.settle()
    p, q = users.values(), items.values()
    error = (predictions(p, q, mean) - batch[:, 2]).astype(np.float32)[:, None]
    one = np.ones_like(error)
    sent = (
        users.push(error * np.hstack([q[:, :-1], one]) + l2 * p, lr),
        items.push(error * np.hstack([p[:, :-1], one]) + l2 * q, lr),
    )
    client.settle()
    del sent


def predictions(p: np.ndarray, q: np.ndarray, mean: float) -> np.ndarray:
    """Of pairs of rows."""
    return mean + p[:, -1] + q[:, -1] + np.einsum("ij,ij->i", p[:, :-1], q[:, :-1])


def whole(client: mls.ps.Client, table: str) -> np.ndarray:
    """All rows, as they are now."""
    spec = client.tables[client.number(table)]
    found = np.zeros((spec.count, spec.width), np.float32)
    with client.snapshot(table) as snapshot:
        for rows, values in snapshot:
            found[rows] = values
    return found


def rmse(client: mls.ps.Client, ratings: np.ndarray, mean: float) -> float:
    """The root of the mean squared error."""
    users, items = whole(client, "users"), whole(client, "items")
    p, q = users[ratings[:, 0].astype(int)], items[ratings[:, 1].astype(int)]
    return float(np.sqrt(np.mean((predictions(p, q, mean) - ratings[:, 2]) ** 2)))


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=3000, help="ratings in a step of all workers")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--l2", type=float, default=0.08)
    options = parser.parse_args()
    ctx = mls.init(mls.ClusterSection(servers=options.servers))
    if ctx.role == "server":
        mls.ps.serve()
        return
    ratings = load(options.ratings)
    order = np.random.default_rng(0).permutation(len(ratings))
    test, train = np.split(ratings[order], [len(ratings) // 10])
    mean = float(train[:, 2].mean())
    client = mls.ps.Client(
        [
            mls.ps.Table(
                name,
                count=int(ratings[:, column].max()) + 1,
                width=options.factors + 1,
                rule="row_adagrad",
                initial="normal",
                scale=0.05,
                seed=column,
            )
            for column, name in enumerate(("users", "items"))
        ]
    )
    for epoch in range(options.epochs):
        shuffled = train[np.random.default_rng(epoch).permutation(len(train))]
        for start in range(0, len(shuffled), options.batch):
            mine = shuffled[start : start + options.batch][ctx.group.rank :: ctx.group.size]
            step(client, mine, mean, options.lr, options.l2)
        if epoch % 5 == 4 or epoch + 1 == options.epochs:
            error = rmse(client, test, mean)
            if ctx.group.rank == 0:
                print(f"epoch {epoch + 1}: RMSE {error:.4f} of {len(test):,} ratings", flush=True)
    client.close()


if __name__ == "__main__":
    main()
