"""Use a run: measure it on data, apply it to new inputs. Collective over the world."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys import context, data
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.jobfile import Job, load_job
from mpimlsys.train import checkpoint
from mpimlsys.train.build import make_trainer, wants_classes
from mpimlsys.train.durable import cannot_write
from mpimlsys.train.report import Evaluation
from mpimlsys.train.runfolder import RunFolder
from mpimlsys.train.sparse import is_sparse
from mpimlsys.train.summary import describe
from mpimlsys.train.trainer import Trainer
from mpimlsys.types import Array, Dataset


def evaluate(folder: Path, *, source: str | None = None, as_json: bool = False) -> Evaluation:
    """Measure a run's newest checkpoint on labelled data and print the result.

    Args:
        folder: of the run.
        source: anything that ``data.source`` accepts; by default the run's own test set, or its
            training set where it has none.
        as_json: print one JSON object.

    Raises:
        ConfigError: not a run, no checkpoint, data that does not fit the model.
        CorruptData: all checkpoints, or the data, are damaged.
    """
    ctx, job, trainer, description = _open(folder)
    with ctx.together():
        dataset, part = _labelled(job, description, source)
    result = trainer.evaluate(dataset)
    trainer.close()
    if ctx.is_root:
        if as_json:
            record = {
                "run": str(folder),
                "step": trainer.steps_done,
                "samples": result.samples,
                "loss": result.loss,
                result.measure_name: result.measure,
            }
            print(json.dumps(record))
        else:
            print(
                f"{describe(result, part)}, loss {result.loss:.4g} on {result.samples:,} "
                f"{description.unit} of {source or job.data.source} (step {trainer.steps_done:,})"
            )
    return result


def predict(folder: Path, inputs: Path, output: Path | None = None) -> None:
    """Apply a run's newest checkpoint to the samples of a file, shared among the ranks.

    Args:
        folder: of the run.
        inputs: CSV, NPY, NPZ or IDX, gzip or not; shaped as the training samples.
        output: CSV, NPY or NPZ by its ending; None prints CSV. A row is the class (of a text: the
            next character) and its probability, or the number. NPZ has ``scores`` too.

    Raises:
        ConfigError: not a run, no checkpoint, inputs that do not fit, an unknown ending.
        CorruptData: the inputs, or all checkpoints, are damaged.
    """
    ctx, job, trainer, description = _open(folder)
    with ctx.together():
        if output is not None and output.suffix not in (".csv", ".npy", ".npz"):
            raise ConfigError(f"cannot tell the format of {output}; end it in .csv, .npy or .npz.")
        samples = data.inputs_from_file(
            inputs,
            description,
            target=job.data.target,
            columns=job.data.columns,
            dtype=job.job.dtype,
        )
    mine = data.shard(np.arange(len(samples)), 0, len(samples), ctx.rank, ctx.size)
    scores = _collect(ctx, trainer.predict(samples[mine]), len(samples))
    trainer.close()
    with ctx.together():
        if ctx.is_root:
            columns = _columns(scores, trainer.loss.measure_name)
            if description.kind == "text":
                characters = description.vocabulary.symbols[columns["prediction"]]
                columns["prediction"] = np.array([chr(code) for code in characters])
            _write(columns, scores, output)


def _open(folder: Path) -> tuple[Context, Job, Trainer, data.Description]:
    """The trainer of a run with the parameters of its newest whole checkpoint. Collective."""
    ctx = context.init()
    with ctx.together():
        run = RunFolder.open(folder)
        job = load_job(run.job_file).job
        # nothing is exchanged, and there are no servers
        served = job.exchange.kind == "ps"
        if served:
            job = replace(job, exchange=replace(job.exchange, kind="allreduce", compress="none"))
        ctx.limit_blas_threads(job.job.blas_threads)
        # the folder may have been moved since
        place = run.checkpoints if run.checkpoints.is_dir() else job.checkpoint_dir
        damaged: list[str] = []
        found = checkpoint.newest(place, damaged.append)
        if found is None and damaged:
            raise CorruptData(f"every checkpoint in {place} is damaged: {damaged[0]}.")
        if found is None:
            raise ConfigError(
                f"{folder} has no checkpoint yet. Go on with: mpimlsys train {run.job_file} "
                "--resume"
            )
        description = data.Description.from_tensors(found.tensors)
    trainer = make_trainer(ctx, job, description, total_steps=1, saved=found.tensors)
    with ctx.together():
        for line in damaged if ctx.is_root else []:
            print(line)
        trainer.load_state_dict(
            {
                name: value
                for name, value in found.tensors.items()
                if not (served and name.startswith("exchange."))
            }
        )
    return ctx, job, trainer, description


def _labelled(job: Job, description: data.Description, source: str | None) -> tuple[Dataset, str]:
    """What to evaluate on, and which part of the data that is."""
    common: dict[str, Any] = {
        "classes": wants_classes(job),
        "target": job.data.target,
        "columns": job.data.columns,
        "dtype": job.job.dtype,
        "sequence_length": job.data.sequence_length,
    }
    if source is not None:
        return data.labelled(source, description, **common), "test"
    splits = data.load(
        job.data.source,
        test_fraction=job.data.test_fraction,
        seed=job.job.seed,
        max_bytes=job.data.max_bytes,
        sparse=is_sparse(job),
        description=description,
        **common,
    )
    dataset, part = (splits.test, "test") if splits.test else (splits.train, "train")
    if isinstance(dataset, data.ArrayDataset):
        dataset = data.rescaled(dataset, description, job.job.dtype)
    return dataset, part


def _collect(ctx: Context, part: Array, count: int) -> Array:
    """All ranks' outputs in the order of the samples. Collective."""
    padded = np.zeros((-(-count // ctx.size), *part.shape[1:]), part.dtype)
    padded[: len(part)] = part
    parts = ctx.gather(padded)
    order = np.arange(count)
    sizes = [len(data.shard(order, 0, count, rank, ctx.size)) for rank in range(ctx.size)]
    return np.concatenate([parts[rank, :size] for rank, size in enumerate(sizes)])


def _columns(scores: Array, measure: str) -> dict[str, Array]:
    if measure != "accuracy":
        rows = scores.reshape(len(scores), -1)
        if rows.shape[1] == 1:
            return {"prediction": rows[:, 0]}
        return {f"prediction_{index}": column for index, column in enumerate(rows.T)}
    wide = scores.astype(np.float64)
    if scores.shape[-1] == 1:
        probability = (np.tanh(wide[..., 0] / 2) + 1) / 2
        return {"prediction": (probability > 0.5).astype(np.int64), "probability": probability}
    shares = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    if scores.ndim == 3:  # a text: what follows its last character
        scores, shares = scores[:, -1], shares[:, -1]
    return {"prediction": scores.argmax(axis=-1), "probability": shares.max(axis=-1)}


def _write(columns: dict[str, Array], scores: Array, output: Path | None) -> None:
    if output is None:
        print(_csv(columns), end="", flush=True)
        return
    try:
        if output.suffix == ".csv":
            output.write_text(_csv(columns))
        elif output.suffix == ".npz":
            arrays: dict[str, Any] = {"scores": scores, **columns}
            np.savez(output, **arrays)
        else:
            table = list(columns.values())
            np.save(output, table[0] if "prediction" in columns else np.stack(table, axis=1))
    except OSError as error:
        raise cannot_write(output, error, "--output") from error
    print(f"{len(scores):,} predictions in {output}", flush=True)


def _csv(columns: dict[str, Array]) -> str:
    def shown(value: Any) -> str:
        return f"{value:.6g}" if isinstance(value, np.floating) else str(value)

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([map(shown, row) for row in zip(*columns.values(), strict=True)])
    return text.getvalue()
