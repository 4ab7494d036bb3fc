"""From a job to the things that train: data, model, optimiser, trainer."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from mpimlsys import data, exchange, nn, optim
from mpimlsys.compress import Compression, Feedback, parse
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, nearest
from mpimlsys.exchange.saved_rows import SavedRows
from mpimlsys.jobfile import ExchangeSection, Job, OptimizerSection
from mpimlsys.train import sparse
from mpimlsys.train.trainer import Trainer, total_steps
from mpimlsys.types import Array, Dataset

_MODEL_KEYS = (
    "dropout",
    "hidden",
    "activation",
    "layers",
    "embedding",
    "factors",
    "l1",
    "l2",
    "rows_lr",
)
# what a job says about a codec, and what stands for nothing
OF_A_CODEC: Mapping[str, Any] = MappingProxyType(
    {
        "error_feedback": "classic",
        "compress_min_elements": 0,
        "compress_warmup_steps": 0,
        "compress_ramp_steps": 0,
        "compress_momentum": 0.0,
        "compress_clip_norm": 0.0,
    }
)
_REGRESSIONS = ("linear", "matrix_factorization")  # the built-in models that predict numbers


@dataclass(frozen=True)
class Workbench:
    """What a run works with.

    Attributes:
        train, test: the data; ``test`` is None where there is none.
        description: what the model must know of its data.
        trainer: model, optimiser and exchange.
        total_steps: of the whole run.
    """

    job: Job
    train: Dataset
    test: Dataset | None
    description: data.Description
    trainer: Trainer
    total_steps: int

    def manifest(self) -> dict[str, Any]:
        """What a checkpoint says about its run, beside the tensors."""
        job = self.job
        per_epoch = data.steps_per_epoch(len(self.train), job.data.batch_size)
        epoch, step_in_epoch = divmod(self.trainer.steps_done, per_epoch)
        return {
            "seed": job.job.seed,
            "dtype": job.job.dtype,
            "batch_size": job.data.batch_size,
            "accumulate": job.data.accumulate,
            "samples": len(self.train),
            "model": job.model.name,
            "optimizer": job.optimizer.name,
            "data_position": {"epoch": epoch, "step_in_epoch": step_in_epoch},
            "random_state": {
                "generator": "Philox",
                "key": "(seed, rank)",
                "counter": self.trainer.steps_done,
            },
        }


def build(ctx: Context, job: Job) -> Workbench:
    """Load the data and make the trainer of a job. Collective over the world.

    Raises:
        ConfigError: unknown model, unusable data, options that do not apply; on all ranks.
        CorruptData: a damaged data file; on all ranks.
    """
    with ctx.together():
        splits = data.load(
            job.data.source,
            classes=wants_classes(job),
            target=job.data.target,
            columns=job.data.columns,
            test_fraction=job.data.test_fraction,
            seed=job.job.seed,
            dtype=job.job.dtype,
            sequence_length=job.data.sequence_length,
            max_bytes=job.data.max_bytes,
            sparse=sparse.is_sparse(job),
        )
        count = len(splits.train)
        if count < ctx.size:
            raise ConfigError(
                f"{count} training samples cannot be shared by {ctx.size} ranks; start at most "
                f"{count}."
            )
    if job.data.standardise:
        splits = _standardised(ctx, splits, job.job.dtype)
    total = total_steps(count, job.data.batch_size, job.job.epochs, job.job.max_steps)
    trainer = make_trainer(ctx, job, splits.description, total)
    return Workbench(job, splits.train, splits.test, splits.description, trainer, total)


def make_trainer(
    ctx: Context,
    job: Job,
    description: data.Description,
    total_steps: int,
    saved: Mapping[str, Array] | None = None,
) -> Trainer:
    """The trainer of a job, with initial parameters. Collective over the workers.

    Args:
        ctx: of the workers.
        job: what to train.
        description: of the data.
        total_steps: of the whole run.
        saved: a checkpoint, whose rows a sparse model takes instead of those of servers.
    """
    with ctx.together():
        model = _model(job, description)
        optimizer = _optimizer(job.optimizer)
        schedule = _schedule(job.optimizer, total_steps)
        layers = sparse.layers_of(model)
        live = _exchange(job, layers if saved is None else [])
        for layer in layers if saved is not None else []:
            layer.attach(SavedRows(saved or {}, layer.table.count))
    return Trainer(
        model,
        optimizer=optimizer,
        exchange=live,
        schedule=schedule,
        clip_norm=job.optimizer.clip_norm,
        accumulate=job.data.accumulate,
        dtype=job.job.dtype,
        seed=job.job.seed,
        bucket_bytes=job.exchange.bucket_bytes,
        device=job.cluster.device,
        precision=job.job.precision,
    )


def wants_classes(job: Job) -> bool:
    """Whether the targets are classes rather than numbers."""
    if job.data.targets == "auto":
        return job.model.name not in _REGRESSIONS
    return job.data.targets == "classes"


def _exchange(
    job: Job, layers: Sequence[nn.ServedEmbedding]
) -> exchange.AllReduce | exchange.ParameterServers:
    """What a job says about how gradients are combined."""
    compress = compression_of(job.exchange)
    if job.exchange.kind == "allreduce":
        if layers:
            raise ConfigError(
                f"the model {job.model.name!r} has rows at parameter servers: set exchange.kind = "
                "'ps' and cluster.servers = 1."
            )
        return exchange.AllReduce(compress=compress, seed=job.job.seed)
    if compress == "auto":
        raise ConfigError(
            "exchange.compress = 'auto' measures all-reduce; with parameter servers name a codec, "
            "such as 'int8'."
        )
    return exchange.ParameterServers(
        consistency=job.exchange.consistency, compress=compress, embeddings=layers
    )


def compression_of(section: ExchangeSection) -> Compression | str | None:
    """What a job says about compression.

    Raises:
        ConfigError: it is not possible.
    """
    if section.compress == "none":
        return None
    if section.compress == "auto":
        given = [
            f"exchange.{key} = {getattr(section, key)!r}"
            for key, default in OF_A_CODEC.items()
            if getattr(section, key) != default
        ]
        if given:
            raise ConfigError(
                f"exchange.compress = 'auto' takes no notice of {', '.join(given)}; leave it out, "
                "or name a codec."
            )
        return "auto"
    try:
        return Compression(
            parse(section.compress),
            error_feedback=cast(Feedback, section.error_feedback),
            min_elements=section.compress_min_elements,
            warmup_steps=section.compress_warmup_steps,
            ramp_steps=section.compress_ramp_steps,
            momentum=section.compress_momentum,
            clip_norm=section.compress_clip_norm,
        )
    except ConfigError as error:
        raise ConfigError(f"[exchange] {error}") from error


def _model(job: Job, description: data.Description) -> nn.Module:
    section = job.model
    if ":" in section.name:
        return _own_model(section.name, section.options)
    if section.options:
        raise ConfigError("model.options is for models of your own ('module:function').")
    if sparse.is_sparse(job):
        return sparse.build(job, description)
    options = {
        key: getattr(section, key) for key in _MODEL_KEYS if getattr(section, key) is not None
    }
    return nn.models.build(section.name, description.input_shape, description.outputs, options)


def _own_model(name: str, options: dict[str, Any]) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model.name = {name!r}: {error}. Modules are looked for in {folder} and in the "
            "installed packages."
        ) from error
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if function is None:
        raise ConfigError(
            f"model.name = {name!r}: {module_name} has no {function_name!r}."
            f"{nearest(function_name, [n for n in vars(module) if not n.startswith('_')])}"
        )
    try:
        model = function(**options)
    except TypeError as error:
        raise ConfigError(
            f"model.name = {name!r} with model.options = {options}: {error}."
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model.name = {name!r} gave {type(model).__name__}; return an mpimlsys.nn.Module."
        )
    return model


def _optimizer(section: OptimizerSection) -> Any:
    options = {
        key: getattr(section, key)
        for key in ("momentum", "weight_decay", "freeze_steps")
        if getattr(section, key) is not None
    }
    return optim.from_name(section.name, section.lr, **options)


def _schedule(section: OptimizerSection, total_steps: int) -> optim.Schedule:
    schedules: dict[str, Callable[[], optim.Schedule]] = {
        "constant": optim.constant,
        "step": lambda: optim.step(section.step_size, section.gamma),
        "cosine": lambda: optim.cosine(max(1, total_steps - section.warmup_steps)),
    }
    return optim.warmup(section.warmup_steps, schedules[section.schedule]())


def _standardised(ctx: Context, splits: data.Splits, dtype: str) -> data.Splits:
    """Mean 0 and variance 1 over the training samples of all ranks. Collective."""
    moments = None
    with ctx.together():
        if not isinstance(splits.train, data.ArrayDataset):
            raise ConfigError("data.standardise applies to tables and images.")
        share = data.shard(np.arange(len(splits.train)), 0, len(splits.train), ctx.rank, ctx.size)
        moments = data.Moments.of(splits.train.inputs[share])
    assert moments is not None
    merged = data.Moments(0, np.zeros_like(moments.mean), np.zeros_like(moments.m2))
    for part in ctx.gather(moments.as_array()):
        merged = merged.merge(data.Moments.from_array(part))
    description = splits.description.scaled(*merged.scaling())
    return data.Splits(
        data.rescaled(splits.train, description, dtype),
        data.rescaled(splits.test, description, dtype) if splits.test is not None else None,
        description,
    )
