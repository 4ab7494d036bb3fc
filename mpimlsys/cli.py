"""The command line: parse, build the configuration, call. Heavy imports happen in the commands."""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mpimlsys import __version__, config
from mpimlsys.errors import ConfigError, MpimlsysError

_RANK_0_FIRST_S = 2.0
_EXAMPLES = """\
examples:
  mpimlsys launch -n 4 examples/mnist_cnn.toml        4 ranks on this machine
  mpirun -n 4 mpimlsys train examples/mnist_cnn.toml  the same, with your own mpirun
  mpimlsys train JOB --set optimizer.lr=0.1 --dry-run what would run, and why
  mpimlsys evaluate runs/mnist-cnn                    the trained model on its test set
  mpimlsys doctor                                     is this machine ready?
"""


class _Parser(argparse.ArgumentParser):
    """Reports a usage error on rank 0 only."""

    def error(self, message: str) -> NoReturn:
        if config.environment().rank_hint:
            time.sleep(_RANK_0_FIRST_S)
            raise SystemExit(2)
        super().error(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the console script ``mpimlsys``.

    Returns:
        0 for success, 2 for the user's mistake, 128 + signal after a stop, 1 for anything else.
    """
    options = _parser().parse_args(arguments)
    status = 1
    try:
        status = options.run(options)
    except MpimlsysError as error:
        status = error.exit_status
        _report(error)
    except KeyboardInterrupt:
        status = 130
        _leave(130)
    except Exception:  # noqa: BLE001 a bug: tell it, and end the other ranks, which would wait
        traceback.print_exc()
        _leave(1)
    current = _context()
    environment = config.environment()
    if current.is_root if current is not None else not environment.rank_hint:
        _write_outcome(status)
    # a launcher comments on every status but 0; ``mpimlsys launch`` takes the report instead.
    # Before MPI has started only the status ends the other ranks
    return 0 if current is not None and environment.outcome_file is not None else status


def _report(error: MpimlsysError) -> None:
    """Print an error once; end the other ranks where only this one knows of it."""
    current = _context()
    rank = (config.environment().rank_hint or 0) if current is None else current.rank
    everywhere = error.on_all_ranks or (current is not None and current.size == 1)
    if rank and everywhere:
        return
    if rank and current is None:
        # most likely all ranks meet this error: rank 0 tells it, and its end ends the others
        time.sleep(_RANK_0_FIRST_S)
    where = f" (rank {rank})" if rank else ""
    print(f"mpimlsys: error{where}: {error}", file=sys.stderr, flush=True)
    if not everywhere:
        _leave(error.exit_status)


def _context() -> Any:
    """The context of this process if a command has made one."""
    module = sys.modules.get("mpimlsys.context")
    return module.current() if module else None


def _leave(status: int) -> None:
    """End all ranks, for what only this one knows of; returns when there are no others."""
    current = _context()
    if current is not None and current.size > 1:
        _write_outcome(status)
        current.abort(status)


def _write_outcome(status: int) -> None:
    """Leave the job's exit status where ``mpimlsys launch`` looks for it."""
    outcome = config.environment().outcome_file
    if outcome is not None:
        outcome.write_text(json.dumps({"status": status}))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mpimlsys",
        description="Train machine-learning models over MPI.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mpimlsys {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command(
        "train",
        _train,
        "train a job in this process, or as one rank under mpirun or srun",
        "mpirun -n 4 mpimlsys train examples/mnist_cnn.toml --set job.epochs=5",
    )
    _job_arguments(sub)
    sub = command(
        "launch",
        _launch,
        "train a job with several ranks, through the launcher of the MPI in use",
        "mpimlsys launch -n 4 examples/mnist_cnn.toml",
    )
    sub.add_argument("-n", "--ranks", type=int, metavar="N", help="ranks; default: one per core")
    sub.add_argument("--hosts", type=Path, metavar="FILE", help="host file of the launcher")
    sub.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="K",
        help="start again from the newest checkpoint after a crash, at most K times",
    )
    _job_arguments(sub)
    sub = command(
        "evaluate",
        _evaluate,
        "measure a trained model on its test set or on other data",
        "mpimlsys evaluate runs/mnist-cnn --data more-digits.npz",
    )
    _run_argument(sub)
    sub.add_argument("--data", metavar="SOURCE", help="labelled data; default: the run's test set")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command(
        "predict",
        _predict,
        "apply a trained model to new data",
        "mpimlsys predict runs/mnist-cnn --input digits.npy --output answers.csv",
    )
    _run_argument(sub)
    sub.add_argument(
        "--input", type=Path, required=True, metavar="FILE", help="CSV, NPY, NPZ, IDX; gzip or not"
    )
    sub.add_argument(
        "--output", type=Path, metavar="FILE", help="CSV, NPY or NPZ; default: CSV on the terminal"
    )
    sub = command(
        "submit",
        _submit,
        "write the job's sbatch script and submit it to Slurm",
        "mpimlsys submit examples/mnist_cnn.toml --nodes 2 --time 00:30:00",
    )
    _job_arguments(sub, resume=False)
    sub.add_argument("--nodes", metavar="N", help="short for --set slurm.nodes=N")
    sub.add_argument("--time", metavar="T", help="short for --set slurm.time=T")
    sub.add_argument("--partition", metavar="P", help="short for --set slurm.partition=P")
    sub = command(
        "status", _status, "say how a submitted run is doing", "mpimlsys status runs/mnist-cnn"
    )
    _run_argument(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command(
        "logs", _logs, "print the log of a submitted run", "mpimlsys logs -f runs/mnist-cnn"
    )
    _run_argument(sub)
    sub.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    sub = command("cancel", _cancel, "cancel a submitted run", "mpimlsys cancel runs/mnist-cnn")
    _run_argument(sub)
    sub = command(
        "plan",
        _plan,
        "measure a job's first steps, and say what compression or more ranks would change",
        "mpirun -n 4 mpimlsys plan examples/mnist_cnn.toml",
    )
    sub.add_argument("job", type=Path, metavar="JOB", help="job file (TOML)")
    _set_argument(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command("doctor", _doctor, "check this machine and say what to mend", "mpimlsys doctor")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command(
        "bench",
        _bench,
        "measure on this machine, what is compared in turn",
        "mpirun -n 2 mpimlsys bench checkpoint",
    )
    kinds = sub.add_subparsers(dest="what", required=True, metavar="WHAT")
    kind = kinds.add_parser("train", help="training throughput, beside PyTorch where installed")
    kind.add_argument("--batch", type=int, default=64, help="samples per step (64)")
    kind.add_argument("--threads", type=int, default=1, help="BLAS threads of both (1)")
    kind.add_argument("--repeats", type=int, default=60, help="interleaved repetitions (60)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind = kinds.add_parser("allreduce", help="all-reduce, beside the MPI's own and Gloo")
    kind.add_argument("--sizes", help="such as 64KiB,16MiB (1 KiB to 256 MiB)")
    kind.add_argument(
        "--algorithms",
        help="of auto,ring,doubling,halving,shared,hierarchical,mpi,gloo (auto,ring,mpi and, where "
        "PyTorch is installed, gloo; on a GPU also staged, through host memory: auto,staged)",
    )
    kind.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where the arrays are (cpu)"
    )
    kind.add_argument(
        "--memory",
        choices=("context", "user", "both"),
        default="both",
        help="arrays of ctx.empty, or of NumPy (both)",
    )
    kind.add_argument("--plot", type=Path, metavar="PNG", help="draw bandwidth over size")
    kind.add_argument(
        "--explain", action="store_true", help="show what auto stands for here, and measure nothing"
    )
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind = kinds.add_parser("stream", help="memory bandwidth of all ranks together")
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind = kinds.add_parser(
        "codecs",
        help="compression of gradients, beside memcpy and PyTorch",
        epilog="example:\n  mpimlsys bench codecs --device cuda --codecs int8,top_k:0.01:sampled",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kind.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where arrays are (cpu)"
    )
    kind.add_argument(
        "--codecs",
        metavar="NAMES",
        help="as in job files, such as fp16,top_k:0.01+int8 (all, with usual settings)",
    )
    kind.add_argument("--sizes", help="such as 64KiB,16MiB (1MiB,64MiB; on a GPU 256MiB)")
    kind.add_argument("--threads", help="of the CPU at the same time, such as 1,2 (1,2)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind = kinds.add_parser("exchange", help="compressed all-reduce beside the dense one")
    kind.add_argument(
        "--codecs",
        default="fp16,int8,int4,sign,top_k:0.01,power_sgd:4",
        metavar="NAMES",
        help="as in job files (fp16,int8,int4,sign,top_k:0.01,power_sgd:4)",
    )
    kind.add_argument("--sizes", default="1MiB,16MiB", help="such as 256KiB,4MiB (1MiB,16MiB)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind = kinds.add_parser("ps", help="push and pull through parameter servers")
    kind.add_argument("--servers", type=int, default=1, help="ranks that serve (1)")
    kind.add_argument("--dense", default="1MiB,16MiB", help="arrays, such as 16MiB (1MiB,16MiB)")
    kind.add_argument(
        "--sparse", default="1000x16,10000x16", help="keys x width (1000x16,10000x16)"
    )
    kind.add_argument("--rows", type=int, default=1_000_000, help="of the table (1,000,000)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    kind = kinds.add_parser("checkpoint", help="time that checkpoints take from training")
    kind.add_argument("--megabytes", type=int, default=100, help="of parameters (100)")
    kind.add_argument("--seconds", type=float, default=5.0, help="of a window (5)")
    kind.add_argument("--repeats", type=int, default=10, help="interleaved repetitions (10)")
    kind.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _job_arguments(parser: argparse.ArgumentParser, *, resume: bool = True) -> None:
    parser.add_argument("job", type=Path, metavar="JOB", help="job file (TOML)")
    _set_argument(parser)
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write what every rank did when, for ui.perfetto.dev; FILE.json or FILE.json.gz",
    )
    if resume:
        parser.add_argument(
            "--resume", action="store_true", help="go on from the newest checkpoint of the run"
        )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the job and where each value came from"
    )


def _set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the job, such as optimizer.lr=0.1; may be repeated",
    )


def _run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a run")


def _train(options: argparse.Namespace) -> int:
    from mpimlsys.jobfile import load_job

    environment = config.environment()
    if options.dry_run:
        if not environment.rank_hint:
            print(load_job(options.job, options.set).to_toml(origins=True), end="")
        return 0
    from mpimlsys.train.job import train

    train(_loaded_together(options), resume=options.resume, trace=options.trace)
    return 0


def _plan(options: argparse.Namespace) -> int:
    from mpimlsys.train.plan import plan

    return plan(_loaded_together(options), as_json=options.json)


def _loaded_together(options: argparse.Namespace) -> Any:
    """The job; ranks that cannot read it tell the others."""
    from mpimlsys.jobfile import load_job

    try:
        return load_job(options.job, options.set)
    except ConfigError as error:
        if (config.environment().size_hint or 1) > 1:
            from mpimlsys.context import fail_together

            fail_together(error)
        raise


def _launch(options: argparse.Namespace) -> int:
    from mpimlsys.jobfile import load_job

    resolved = load_job(options.job, options.set)
    if options.dry_run:
        print(resolved.to_toml(origins=True), end="")
        return 0
    from mpimlsys import launch

    arguments = ["train", str(options.job)]
    arguments += [word for override in options.set for word in ("--set", override)]
    arguments += ["--resume"] if options.resume else []
    arguments += ["--trace", str(options.trace)] if options.trace else []
    return launch.run(
        arguments, ranks=options.ranks, hosts=options.hosts, max_restarts=options.max_restarts
    )


def _evaluate(options: argparse.Namespace) -> int:
    from mpimlsys.train.apply import evaluate

    evaluate(options.folder, source=options.data, as_json=options.json)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from mpimlsys.train.apply import predict

    predict(options.folder, options.input, options.output)
    return 0


def _submit(options: argparse.Namespace) -> int:
    from mpimlsys.jobfile import load_job
    from mpimlsys.launch.slurm import follow

    short = [
        f"slurm.{key}={json.dumps(value) if key != 'nodes' else value}"
        for key in ("nodes", "time", "partition")
        if (value := getattr(options, key)) is not None
    ]
    resolved = load_job(options.job, [*options.set, *short])
    follow.submit(resolved, dry_run=options.dry_run, trace=options.trace)
    return 0


def _status(options: argparse.Namespace) -> int:
    from mpimlsys.launch.slurm import follow

    follow.status(options.folder, as_json=options.json)
    return 0


def _logs(options: argparse.Namespace) -> int:
    from mpimlsys.launch.slurm import follow

    follow.logs(options.folder, follow=options.follow)
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from mpimlsys.launch.slurm import follow

    follow.cancel(options.folder)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from mpimlsys import doctor

    return doctor.run(json=options.json)


def _bench(options: argparse.Namespace) -> int:
    from mpimlsys.bench import allreduce, checkpoint, codecs, exchange, explain, ps, stream, train

    if options.what == "allreduce" and options.explain:
        return explain.run()
    if options.what == "allreduce" and options.device == "cuda":
        from mpimlsys.bench import device_allreduce

        return device_allreduce.run(
            sizes=options.sizes or device_allreduce.SIZES,
            algorithms=options.algorithms or device_allreduce.DEFAULT,
            as_json=options.json,
        )
    if options.what == "allreduce":
        return allreduce.run(
            sizes=options.sizes or allreduce.SIZES,
            algorithms=options.algorithms or allreduce.DEFAULT,
            memory=options.memory,
            as_json=options.json,
            plot=options.plot,
        )
    if options.what == "codecs" and options.device == "cuda":
        return _bench_device_codecs(options)
    if options.what == "codecs":
        return codecs.run(
            codecs=options.codecs or codecs.DEFAULT,
            sizes=options.sizes or codecs.DEFAULT_SIZES,
            threads=options.threads or codecs.DEFAULT_THREADS,
            as_json=options.json,
        )
    if options.what == "exchange":
        return exchange.run(codecs=options.codecs, sizes=options.sizes, as_json=options.json)
    if options.what == "ps":
        return ps.run(
            servers=options.servers,
            dense=options.dense,
            sparse=options.sparse,
            rows=options.rows,
            as_json=options.json,
        )
    if options.what == "stream":
        return stream.run(as_json=options.json)
    if options.what == "checkpoint":
        return checkpoint.run(
            megabytes=options.megabytes,
            seconds=options.seconds,
            repeats=options.repeats,
            as_json=options.json,
        )
    return train.run(
        batch=options.batch,
        threads=options.threads,
        repeats=options.repeats,
        as_json=options.json,
    )


def _bench_device_codecs(options: argparse.Namespace) -> int:
    from mpimlsys.bench import device_codecs

    if options.threads is not None:
        raise ConfigError("--threads are of the CPU: leave it out with --device cuda.")
    return device_codecs.run(
        codecs=options.codecs or device_codecs.DEFAULT,
        sizes=options.sizes or device_codecs.DEFAULT_SIZES,
        as_json=options.json,
    )
