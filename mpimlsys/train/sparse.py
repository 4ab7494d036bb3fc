"""The models of a job whose rows are at parameter servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpimlsys import data, ps
from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import Job
from mpimlsys.nn.module import Module
from mpimlsys.nn.served import ServedEmbedding
from mpimlsys.nn.sparse import MatrixFactorization, SparseLogistic, WideAndDeep

_KEYS = ("dropout", "hidden", "activation", "layers", "embedding", "factors", "l1", "l2")


@dataclass(frozen=True)
class _Rows:
    """Makes the layers of a model, with tables that follow the job."""

    job: Job
    count: int

    def layer(self, name: str, width: int, rule: str, **options: Any) -> ServedEmbedding:
        job = self.job
        lr = job.model.rows_lr
        if lr is not None and not job.optimizer.lr:
            raise ConfigError("model.rows_lr needs an optimizer.lr above 0.")
        table = ps.Table(
            name,
            self.count,
            width=width,
            rule=rule,
            consistency=job.exchange.consistency,
            seed=job.job.seed,
            **options,
        )
        return ServedEmbedding(table, lr=1.0 if lr is None else lr / job.optimizer.lr)


def _sparse_logistic(
    rows: _Rows, description: data.Description, l1: float = 1.0, l2: float = 0.0
) -> Module:
    if description.outputs > 2:
        raise ConfigError(
            "the model 'sparse_logistic' tells two classes apart, whose labels are 0 and 1, or -1 "
            f"and 1; the data have labels up to {description.outputs - 1}."
        )
    return SparseLogistic(rows.layer("weights", 1, "ftrl", numbers={"l1": l1, "l2": l2}))


def _matrix_factorization(
    rows: _Rows, description: data.Description, factors: int = 32, l2: float = 0.08
) -> Module:
    if description.input_shape != (2,):
        raise ConfigError(
            "the model 'matrix_factorization' needs two columns beside the target, such as user "
            "and item."
        )
    layer = rows.layer("factors", factors + 1, "row_adagrad", initial="normal", scale=0.05)
    return MatrixFactorization(layer, l2)


def _wide_and_deep(
    rows: _Rows,
    description: data.Description,
    embedding: int = 16,
    hidden: Sequence[int] = (32,),
    l1: float = 1.0,
) -> Module:
    (fields,) = description.input_shape
    if not fields:
        raise ConfigError("the model 'wide_and_deep' needs a table of categories, not libsvm.")
    wide = rows.layer("wide", description.outputs, "ftrl", numbers={"l1": l1})
    deep = rows.layer("deep", embedding, "row_adagrad", initial="normal", scale=0.05)
    return WideAndDeep(wide, deep, fields, embedding, description.outputs, hidden)


_MODELS: dict[str, tuple[Callable[..., Module], tuple[str, ...]]] = {
    "sparse_logistic": (_sparse_logistic, ("l1", "l2")),
    "matrix_factorization": (_matrix_factorization, ("factors", "l2")),
    "wide_and_deep": (_wide_and_deep, ("embedding", "hidden", "l1")),
}
NAMES = tuple(_MODELS)


def is_sparse(job: Job) -> bool:
    """Whether a job's model has rows at parameter servers."""
    return job.model.name in _MODELS


def build(job: Job, description: data.Description) -> Module:
    """The model of such a job.

    Raises:
        ConfigError: an option that does not apply, or data of another kind.
    """
    make, known = _MODELS[job.model.name]
    given = {key: getattr(job.model, key) for key in _KEYS}
    options = {key: value for key, value in given.items() if value is not None}
    for key in options:
        if key not in known:
            raise ConfigError(
                f"model.{key} does not apply to the model {job.model.name!r}, which takes "
                f"{', '.join(known)}."
            )
    return make(_Rows(job, description.features), description, **options)


def layers_of(model: Module) -> list[ServedEmbedding]:
    """The layers of a model whose rows are at servers."""
    return [value for value in vars(model).values() if isinstance(value, ServedEmbedding)]
