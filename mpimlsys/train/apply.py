"""Use a finished run: measure it on data, apply it to new inputs. Collective over the world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys import context, data
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.jobfile import ClusterSection, Job, load_job
from mpimlsys.train import checkpoint
from mpimlsys.train.build import Applied, build_for_checkpoint, labelled_data
from mpimlsys.train.recorder import describe
from mpimlsys.train.runfolder import RunFolder
from mpimlsys.train.threads import limit_blas_threads
from mpimlsys.train.trainer import Evaluation
from mpimlsys.types import Array


def evaluate(folder: Path, *, source: str | None = None, as_json: bool = False) -> Evaluation:
    """Measure a run's newest checkpoint on labelled data and print the result.

    Args:
        folder: of the run.
        source: anything that ``data.source`` accepts; by default the run's own test set.
        as_json: print one JSON object.

    Raises:
        ConfigError: not a run, no checkpoint, data that does not fit the model.
        CorruptData: all checkpoints are damaged.
    """
    ctx, job, applied = _open(folder)
    with ctx.together():
        dataset = labelled_data(job, applied, source)
    result = applied.trainer.evaluate(dataset)
    if ctx.is_root:
        if as_json:
            record = {
                "run": str(folder),
                "step": applied.trainer.steps_done,
                "samples": result.samples,
                "loss": result.loss,
                result.measure_name: result.measure,
            }
            print(json.dumps(record))
        else:
            what = source or "the run's test set"
            print(
                f"{describe(result, 'test')}, loss {result.loss:.4g} on {result.samples:,} samples "
                f"of {what} (checkpoint of step {applied.trainer.steps_done})"
            )
    return result


def predict(folder: Path, inputs: Path, output: Path | None = None) -> None:
    """Apply a run's newest checkpoint to the samples of a file, shared among the ranks.

    Args:
        folder: of the run.
        inputs: CSV, NPY, NPZ or IDX, gzip or not; shaped as the training samples.
        output: CSV, NPY or NPZ by its ending; None prints CSV. A classifier's rows are the class
            and its probability, a regression's the value. NPZ has ``prediction`` and ``scores``.

    Raises:
        ConfigError: not a run, no checkpoint, inputs that do not fit, an unknown ending.
        CorruptData: the inputs or all checkpoints are damaged.
    """
    ctx, job, applied = _open(folder)
    with ctx.together():
        if output is not None and output.suffix not in (".csv", ".npy", ".npz"):
            raise ConfigError(f"cannot tell the format of {output}; end it in .csv, .npy or .npz.")
        samples = data.inputs_from_file(
            inputs, applied.description, target=job.data.target or None
        )
    mine = data.shard(np.arange(len(samples)), 0, len(samples), ctx.rank, ctx.size)
    scores = _collect(ctx, applied.trainer.predict(samples[mine]), len(samples))
    if ctx.is_root:
        columns = _columns(scores, applied.trainer.loss.measure_name)
        _write(columns, scores, output)


def _open(folder: Path) -> tuple[Context, Job, Applied]:
    ctx = context.init(ClusterSection())
    with ctx.together():
        run = RunFolder.open(folder)
        job = load_job(run.job_file).job
        limit_blas_threads(ctx, job.job.blas_threads)
        damaged: list[str] = []
        found = checkpoint.newest(_checkpoints(run, job), damaged.append)
        if ctx.is_root:
            for line in damaged:
                print(line)
        if found is None and damaged:
            raise CorruptData(f"all checkpoints of {folder} are damaged; train it again.")
        if found is None:
            raise ConfigError(
                f"{folder} has no checkpoint yet; go on with: mpimlsys train {run.job_file} --resume"
            )
    return ctx, job, build_for_checkpoint(ctx, job, found)


def _checkpoints(run: RunFolder, job: Job) -> Path:
    """The run's checkpoints, also after its folder was moved."""
    return run.checkpoints if run.checkpoints.is_dir() else job.checkpoint_dir


def _collect(ctx: Context, part: Array, count: int) -> Array:
    """All ranks' outputs in the order of the samples."""
    most = -(-count // ctx.size)
    padded = np.zeros((most, *part.shape[1:]), part.dtype)
    padded[: len(part)] = part
    parts = ctx.gather(padded)
    sizes = [
        len(data.shard(np.arange(count), 0, count, rank, ctx.size)) for rank in range(ctx.size)
    ]
    return np.concatenate([parts[rank, :size] for rank, size in enumerate(sizes)])


def _columns(scores: Array, measure: str) -> dict[str, Array]:
    if measure != "accuracy":
        return {"prediction": scores.reshape(len(scores), -1).squeeze(axis=-1)}
    if scores.shape[-1] == 1:
        probability = 1 / (1 + np.exp(-scores.astype(np.float64)[..., 0]))
        return {"prediction": (probability > 0.5).astype(np.int64), "probability": probability}
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=-1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=-1, keepdims=True)
    return {
        "prediction": scores.argmax(axis=-1),
        "probability": probabilities.max(axis=-1),
    }


def _write(columns: dict[str, Array], scores: Array, output: Path | None) -> None:
    try:
        if output is None or output.suffix == ".csv":
            text = _csv(columns)
            if output is None:
                print(text, end="")
            else:
                output.write_text(text)
        elif output.suffix == ".npy":
            np.save(output, columns["prediction"])
        else:
            np.savez(output, scores=scores, **columns)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}.") from error
    if output is not None:
        print(f"{len(scores):,} predictions in {output}")


def _csv(columns: dict[str, Array]) -> str:
    def shown(value: Any) -> str:
        return str(int(value)) if isinstance(value, np.integer) else f"{float(value):.6g}"

    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(shown(value) for value in row) for row in rows)]
    return "\n".join(lines) + "\n"
