"""The job file: every key with its type, default and meaning, and the reader that checks it.

The dataclasses below are the single description of a job. The reader, ``--set``, ``--dry-run``
and ``docs/job-file.md`` are all derived from them. The file is long because a job has many keys,
each with its documentation beside it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpimlsys.errors import ConfigError, nearest


def _key(
    default: Any, doc: str, *, choices: Sequence[str] = (), minimum: float | None = None
) -> Any:
    metadata = {"doc": doc, "choices": tuple(choices), "minimum": minimum}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class JobSection:
    name: str = _key("job", "Name of the run; part of its folder's name.")
    seed: int = _key(0, "Seed of initialisation, shuffling and dropout.", minimum=0)
    epochs: int = _key(1, "Passes over the training set.", minimum=1)
    max_steps: int = _key(0, "End after this many steps; 0 means no limit.", minimum=0)
    out: str = _key("runs/{job.name}", "Folder of the run.")
    dtype: str = _key(
        "float32", "Type of parameters and activations.", choices=("float32", "float64")
    )
    precision: str = _key(
        "float32",
        "Layers of 16 bits, `bf16` or `fp16` (which scales the loss), on float32 parameters; "
        "`float32`: layers compute in `dtype` (see docs/gpu.md).",
        choices=("float32", "bf16", "fp16"),
    )
    blas_threads: int = _key(
        0,
        "Threads per rank for matrix products; 0 divides the node's cores by its ranks.",
        minimum=0,
    )


@dataclass(frozen=True)
class ClusterSection:
    servers: int = _key(0, "Ranks that become parameter servers; the rest are workers.", minimum=0)
    placement: str = _key(
        "spread",
        "Where servers go: `spread` over the nodes, `pack` onto the last nodes, "
        "or `list` (`server_ranks`).",
        choices=("spread", "pack", "list"),
    )
    server_ranks: list[int] = _key([], 'The servers\' ranks with `placement = "list"`.')
    device: str = _key(
        "cpu",
        "Where workers compute: `cpu`, or `cuda`, a GPU of their node for each (see docs/gpu.md).",
        choices=("cpu", "cuda"),
    )


@dataclass(frozen=True)
class DataSection:
    source: str = _key(
        "mnist",
        "`mnist` (a sample of 10,000 images), `boston`, `python:stdlib` (text), or a path or "
        "glob of IDX, CSV, NPY, NPZ, libsvm or text files, gzip or not.",
    )
    batch_size: int = _key(
        64, "Samples per step over all workers; 0 takes the whole set at once.", minimum=0
    )
    accumulate: int = _key(
        1, "Forward and backward passes per step that share the batch (saves memory).", minimum=1
    )
    target: str = _key("", "Target column of a CSV file, by name or number; empty: the last.")
    columns: list[str] = _key(
        [], "Input columns of a CSV file, by name or number; empty: all but the target."
    )
    targets: str = _key(
        "auto",
        "`classes` or `numbers`; `auto`: numbers for the models `linear` and "
        "`matrix_factorization`, else classes.",
        choices=("auto", "classes", "numbers"),
    )
    test_fraction: float = _key(
        0.1, "Share held back for the test where the source has no test part.", minimum=0
    )
    standardise: bool = _key(
        False, "Shift and scale every feature to mean 0, variance 1 (over all ranks)."
    )
    sequence_length: int = _key(64, "Characters per sample of a text.", minimum=1)
    max_bytes: int = _key(0, "Read at most this much of a text; 0 means all.", minimum=0)


@dataclass(frozen=True)
class ModelSection:
    name: str = _key(
        "mlp",
        "`linear`, `logistic`, `mlp`, `cnn`, `char_rnn`, `char_lstm`; with rows at parameter "
        "servers `sparse_logistic`, `matrix_factorization`, `wide_and_deep`; or "
        "`module:function` for your own.",
    )
    dropout: float | None = _key(
        None, "Probability of dropping a unit in training (`mlp`, `cnn`).", minimum=0
    )
    hidden: list[int] | None = _key(
        None, "Widths of the hidden layers (`mlp`, `wide_and_deep`) or of the cell."
    )
    activation: str | None = _key(None, "`relu`, `tanh` or `sigmoid` (`mlp`).")
    layers: int | None = _key(None, "Recurrent layers (`char_*`).", minimum=1)
    embedding: int | None = _key(
        None, "Width of the embedding (`char_*`, `wide_and_deep`).", minimum=1
    )
    factors: int | None = _key(
        None, "Factors of each user and item (`matrix_factorization`).", minimum=1
    )
    l1: float | None = _key(
        None,
        "L1 of FTRL: how much a feature must tell (`sparse_logistic`, `wide_and_deep`).",
        minimum=0,
    )
    l2: float | None = _key(
        None, "L2 of rows (`sparse_logistic`, `matrix_factorization`).", minimum=0
    )
    rows_lr: float | None = _key(
        None,
        "Learning rate of rows at parameter servers; empty: that of the optimizer.",
        minimum=0,
    )
    options: dict[str, Any] = _key({}, "Keyword arguments for your own `module:function`.")


@dataclass(frozen=True)
class OptimizerSection:
    name: str = _key(
        "sgd",
        "How parameters are updated.",
        choices=(
            "sgd",
            "momentum",
            "nesterov",
            "adam",
            "adamw",
            "lamb",
            "onebit_adam",
            "zero_one_adam",
        ),
    )
    lr: float = _key(0.01, "Learning rate.", minimum=0)
    momentum: float | None = _key(None, "Momentum of `sgd`, `momentum` and `nesterov`.", minimum=0)
    weight_decay: float | None = _key(None, "Weight decay (L2 for `sgd`, `adam`).", minimum=0)
    freeze_steps: int | None = _key(
        None, "Steps after which `onebit_adam` freezes the variance and compresses.", minimum=1
    )
    schedule: str = _key(
        "constant",
        "Learning rate over time.",
        choices=("constant", "step", "cosine"),
    )
    warmup_steps: int = _key(0, "Steps of linear warm-up before the schedule.", minimum=0)
    step_size: int = _key(1000, 'Steps between reductions (`schedule = "step"`).', minimum=1)
    gamma: float = _key(0.1, 'Factor of each reduction (`schedule = "step"`).', minimum=0)
    clip_norm: float = _key(0.0, "Largest global norm of the gradient; 0 does not clip.", minimum=0)


@dataclass(frozen=True)
class ExchangeSection:
    kind: str = _key(
        "allreduce",
        "How gradients are combined: by `allreduce` among the workers, or by parameter servers "
        "(`ps`, with `cluster.servers`).",
        choices=("allreduce", "ps"),
    )
    compress: str = _key(
        "none",
        "Compression of gradients: `none`, a codec such as `fp16`, `int8`, `top_k:0.01`, "
        "`top_k:0.01+int8` or `power_sgd:4` (see docs/compression.md), or `auto`, which measures.",
    )
    error_feedback: str = _key(
        "classic",
        "What becomes of what a compressed gradient leaves out; no effect without compression.",
        choices=("classic", "ef21", "none"),
    )
    compress_min_elements: int = _key(
        0, "Parameters with fewer elements, and vectors, are not compressed; 0: all are.", minimum=0
    )
    compress_warmup_steps: int = _key(0, "Steps before anything is compressed.", minimum=0)
    compress_ramp_steps: int = _key(
        0,
        "Steps in which the ratio of `top_k` or `random_k` falls from 0.25 to its own.",
        minimum=0,
    )
    compress_momentum: float = _key(
        0.0,
        "With `classic` feedback: momentum before compression (DGC), in the place of the "
        "optimiser's. With `ef21`: weight of the past in what is sent.",
        minimum=0,
    )
    compress_clip_norm: float = _key(
        0.0, "Largest norm of a rank's gradient times the root of the ranks; 0: none.", minimum=0
    )
    consistency: str = _key(
        "bsp",
        "Of parameter servers: `bsp`, each step sees all updates of the step before; `ssp:3`, a "
        "worker is at most 3 steps ahead of the slowest; `asp`, nobody waits.",
    )
    bucket_bytes: int = _key(
        1 << 20, "Gradients are sent in pieces of about this size.", minimum=1024
    )


@dataclass(frozen=True)
class CommSection:
    algorithm: str = _key(
        "auto",
        "How all-reduce travels: `auto` takes what was measured to be fastest (see `mpimlsys bench "
        "allreduce --explain`), or one for all sizes.",
        choices=("auto", "ring", "doubling", "halving", "shared", "hierarchical", "mpi"),
    )
    order: str = _key(
        "any",
        "Order of summation: `any` that is fast and the same for all ranks, or `tree`, a balanced "
        "tree over the ranks, which does not change when ranks sum up pairs of others' shares.",
        choices=("any", "tree"),
    )
    fusion_bytes: int = _key(
        64 << 20, "Grouped operations are fused into pieces of at most this size.", minimum=1024
    )
    stall_warning_s: float = _key(
        30.0, "Tell who is late after a wait of this many seconds; 0: never.", minimum=0
    )
    timeout_s: float = _key(600.0, "Longest wait for other ranks, in seconds.", minimum=0.1)


@dataclass(frozen=True)
class CheckpointSection:
    dir: str = _key("{job.out}/checkpoints", "Folder of the checkpoints.")
    every: str = _key(
        "5min",
        "When to write one: a time (`30s`, `5min`, `1h`), `100 steps`, `1 epoch` or `end`; "
        "one is always written at the end.",
    )
    keep: int = _key(3, "How many of the newest to keep.", minimum=1)


@dataclass(frozen=True)
class SlurmSection:
    partition: str = _key("", "Partition; empty: the cluster's default.")
    account: str = _key("", "Account to charge; empty: yours by default.")
    nodes: int = _key(1, "Nodes.", minimum=1)
    tasks_per_node: int = _key(1, "Ranks per node.", minimum=1)
    cpus_per_task: int = _key(1, "Cores per rank.", minimum=1)
    gpus_per_node: int = _key(0, "GPUs per node.", minimum=0)
    memory: str = _key("", "Memory per node, such as `16G`; empty: the cluster's default.")
    time: str = _key("01:00:00", "Limit of time, as Slurm writes it.")
    grace_s: int = _key(
        120, "Seconds before the end of time at which the run stops with a checkpoint.", minimum=1
    )
    requeue: bool = _key(
        False, "Queue the job again when it was pre-empted or its time was over, and go on."
    )
    setup: list[str] = _key(
        ["source .venv/bin/activate"], "Shell lines before the run, such as `module load openmpi`."
    )
    options: list[str] = _key([], "Further options of sbatch, such as `--constraint=ib`.")


@dataclass(frozen=True)
class Job:
    """A complete job; see ``docs/job-file.md`` for every key."""

    job: JobSection = field(default_factory=JobSection)
    cluster: ClusterSection = field(default_factory=ClusterSection)
    data: DataSection = field(default_factory=DataSection)
    model: ModelSection = field(default_factory=ModelSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    exchange: ExchangeSection = field(default_factory=ExchangeSection)
    comm: CommSection = field(default_factory=CommSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    slurm: SlurmSection = field(default_factory=SlurmSection)

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(self.job.out)

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of the checkpoints."""
        return Path(self.checkpoint.dir)


@dataclass(frozen=True)
class ResolvedJob:
    """A job together with where each value came from.

    Attributes:
        job: the checked job, with ``{job.name}`` and ``{job.out}`` filled in.
        origins: ``"section.key"`` to ``"default"``, ``"FILE:LINE"`` or ``"--set"``.
    """

    job: Job
    origins: Mapping[str, str]

    def to_toml(self, *, origins: bool = False) -> str:
        """The job as TOML; with ``origins``, each line says where its value came from."""
        lines: list[str] = []
        for section in dataclasses.fields(self.job):
            lines.append(f"[{section.name}]")
            values = getattr(self.job, section.name)
            for key in dataclasses.fields(values):
                value = getattr(values, key.name)
                if value is None:
                    continue
                text = f"{key.name} = {_toml_value(value)}"
                if origins:
                    text = f"{text:<44} # {self.origins[f'{section.name}.{key.name}']}"
                lines.append(text)
            lines.append("")
        return "\n".join(lines)


def load_job(path: Path | str, overrides: Sequence[str] = ()) -> ResolvedJob:
    """Read and check a job file.

    Args:
        path: a TOML file.
        overrides: ``"section.key=value"`` strings; a value is TOML, or else a bare string.

    Raises:
        ConfigError: the file cannot be read or parsed, a key is unknown, a value has the wrong
            type or lies outside its range. Names the key, the line and the nearest valid name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read the job file {path}: {reason}. Every rank reads it: on several hosts it "
            "must be in a folder that they share."
        ) from error
    return parse_job(text, overrides, name=str(path))


def parse_job(text: str, overrides: Sequence[str] = (), *, name: str = "job") -> ResolvedJob:
    """The same as :func:`load_job` on text; ``name`` stands for the file in messages."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from error
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for section, table in tables.items():
        where = f"{name}:{_line_of(text, section, None)}"
        if section not in _SECTIONS:
            raise ConfigError(f"{where}: unknown section [{section}].{nearest(section, _SECTIONS)}")
        if not isinstance(table, dict):
            raise ConfigError(
                f"{where}: {section!r} must be a section, written [{section}], not a value."
            )
        for key, value in table.items():
            where = f"{name}:{_line_of(text, section, key)}"
            values[f"{section}.{key}"] = _checked(section, key, value, where)
            origins[f"{section}.{key}"] = where
    for override in overrides:
        section, key, value = _parse_override(override)
        values[f"{section}.{key}"] = _checked(section, key, value, f"--set {override}")
        origins[f"{section}.{key}"] = "--set"
    return _resolve(values, origins)


def describe() -> str:
    """The Markdown of ``docs/job-file.md``: one table per section."""
    lines = [
        "# The job file",
        "",
        "TOML. Every key has a default, so an empty file is a valid job. Any key can be set on",
        "the command line: `--set optimizer.lr=0.1`. `mpimlsys train JOB --dry-run` prints the",
        "whole job and where each value came from.",
        "",
        "This page is generated from `mpimlsys/jobfile.py` (`make docs`).",
    ]
    for section, cls in _SECTIONS.items():
        lines += [
            "",
            f"## [{section}]",
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        hints = typing.get_type_hints(cls)
        for item in dataclasses.fields(cls):
            default = getattr(cls(), item.name)
            shown = "the model's" if default is None else f"`{_toml_value(default)}`"
            if default is None and section == "optimizer":
                shown = "the optimiser's"
            doc = item.metadata["doc"]
            if item.metadata["choices"]:
                doc += " One of " + ", ".join(f"`{c}`" for c in item.metadata["choices"]) + "."
            lines.append(f"| `{item.name}` | {_type_name(hints[item.name])} | {shown} | {doc} |")
    return "\n".join(lines) + "\n"


_SECTIONS: Mapping[str, type[Any]] = types.MappingProxyType(
    {item.name: typing.get_type_hints(Job)[item.name] for item in dataclasses.fields(Job)}
)


def _resolve(values: Mapping[str, Any], origins: Mapping[str, str]) -> ResolvedJob:
    all_origins = {}
    sections = {}
    for section, cls in _SECTIONS.items():
        given = {}
        for item in dataclasses.fields(cls):
            dotted = f"{section}.{item.name}"
            all_origins[dotted] = origins.get(dotted, "default")
            if dotted in values:
                given[item.name] = values[dotted]
        sections[section] = cls(**given)
    job = Job(**sections)
    name = job.job.name
    if not name or "/" in name or name.startswith("."):
        raise ConfigError(
            f"job.name = {name!r} cannot be used as a folder name; use letters, digits, '-', '_'."
        )
    out = _fill(job.job.out, "job.out", {"job.name": name})
    folder = _fill(job.checkpoint.dir, "checkpoint.dir", {"job.name": name, "job.out": out})
    job = dataclasses.replace(
        job,
        job=dataclasses.replace(job.job, out=out),
        checkpoint=dataclasses.replace(job.checkpoint, dir=folder),
    )
    return ResolvedJob(job, all_origins)


def _fill(template: str, key: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ConfigError(
                f"{key} = {template!r}: unknown {match[0]}.{nearest(match[1], known)}"
            )
        return known[match[1]]

    filled = re.sub(r"\{([^}]*)\}", value, template)
    if not filled:
        raise ConfigError(f"{key} is empty; name a folder.")
    return filled


def _parse_override(override: str) -> tuple[str, str, Any]:
    dotted, equals, text = override.partition("=")
    section, dot, key = dotted.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set {override}: write section.key=value, such as optimizer.lr=0.1.")
    if section not in _SECTIONS:
        raise ConfigError(f"--set {override}: unknown section.{nearest(section, _SECTIONS)}")
    try:
        return section, key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return section, key, text


def _checked(section: str, key: str, value: Any, where: str) -> Any:
    cls = _SECTIONS[section]
    fields = {item.name: item for item in dataclasses.fields(cls)}
    if key not in fields:
        raise ConfigError(f"{where}: unknown key {section}.{key}.{nearest(key, fields)}")
    hint = typing.get_type_hints(cls)[key]
    metadata = fields[key].metadata
    value = _converted(hint, value)
    if value is None:
        shown = _type_name(hint)
        raise ConfigError(f"{where}: {section}.{key} must be {_article(shown)} {shown}.")
    choices = metadata["choices"]
    if choices and value not in choices:
        # of two or three, such as 'cpu' and 'cuda' for 'gpu', the nearest may be the wrong one
        known = f" Known: {', '.join(choices)}."
        hint = known if len(choices) <= 3 else nearest(str(value), choices)
        raise ConfigError(f"{where}: {section}.{key} = {value!r} is not available.{hint}")
    minimum = metadata["minimum"]
    if minimum is not None and not value >= minimum:
        raise ConfigError(f"{where}: {section}.{key} = {value} must be at least {minimum:g}.")
    return value


def _converted(hint: Any, value: Any) -> Any:
    """The value as the type ``hint``, or None when it is of another type."""
    if isinstance(hint, types.UnionType):
        return _converted(hint.__args__[0], value)
    origin = typing.get_origin(hint) or hint
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is int and isinstance(value, bool):
        return None
    if not isinstance(value, origin):
        return None
    if origin is list:
        (item,) = typing.get_args(hint)
        if any(_converted(item, entry) is None for entry in value):
            return None
    return value


def _type_name(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return _type_name(hint.__args__[0])
    names = {str: "string", int: "integer", float: "number", bool: "true/false", dict: "table"}
    if typing.get_origin(hint) is list:
        return f"list of {_type_name(typing.get_args(hint)[0])}s"
    return names[typing.get_origin(hint) or hint]


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _line_of(text: str, section: str, key: str | None) -> int:
    """Line number of a section or key, for messages; 1 when it is written in another style."""
    current = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[([^\]]+)\]", line):
            current = match[1].strip()
            if (key is None and current == section) or current == f"{section}.{key}":
                return number
        elif match := re.match(r"\s*([\w.\-]+)\s*=", line):
            dotted = f"{current}.{match[1]}" if current else match[1]
            if dotted == (section if key is None else f"{section}.{key}"):
                return number
    return 1


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)
