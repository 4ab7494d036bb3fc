"""Mean and variance of features over all ranks, and the scaling that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpimlsys.types import Array


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations, of each feature.

    Attributes:
        count: samples.
        mean, m2: (features,) float64.
    """

    count: int
    mean: Array
    m2: Array

    @classmethod
    def of(cls, samples: Array) -> Moments:
        """The moments of (n, ...) samples, also of none; features are flattened."""
        rows = samples.reshape(len(samples), int(np.prod(samples.shape[1:]))).astype(np.float64)
        if len(rows) == 0:
            return cls(0, np.zeros(rows.shape[1]), np.zeros(rows.shape[1]))
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, np.square(rows - mean).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """The moments of both parts together.

        Source:
            Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
        """
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + np.square(delta) * (self.count * other.count / count)
        return Moments(count, mean, m2)

    def as_array(self) -> Array:
        """(2 * features + 1,) float64, for sending."""
        return np.concatenate([[float(self.count)], self.mean, self.m2])

    @classmethod
    def from_array(cls, array: Array) -> Moments:
        """What :meth:`as_array` made."""
        features = len(array) // 2
        return cls(int(array[0]), array[1 : 1 + features], array[1 + features :])

    def scaling(self) -> tuple[Array, Array]:
        """``shift`` and ``scale`` with ``(x - shift) * scale`` of mean 0 and variance 1.

        A constant feature keeps the scale 1.
        """
        variance = self.m2 / max(self.count, 1)
        constant = variance <= (1e-12 * np.maximum(np.abs(self.mean), 1.0)) ** 2
        return self.mean, 1 / np.sqrt(np.where(constant, 1.0, variance))
