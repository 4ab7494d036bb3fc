"""What compression costs in accuracy and saves in bytes: two models, several codecs and seeds.

    python benchmarks/compression_accuracy.py --fashion ../shared/data/fashion-mnist

Every run is a `mpimlsys launch` of its own with equal epochs; dense runs of the same optimiser are
the measure. Prints a Markdown table per model and draws accuracy against bytes; also those that
were printed before:

    python benchmarks/compression_accuracy.py --draw TABLES --plot docs/images/compression.png
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev


@dataclass(frozen=True)
class Setting:
    """A row of the table: what is set, and the dense row that it is compared with."""

    name: str
    keys: tuple[str, ...]
    beside: str


@dataclass(frozen=True)
class Model:
    """A job, its measure, and the settings to try."""

    title: str
    job: str
    settings: tuple[Setting, ...]
    perplexity: bool = False


def compressed(
    codec: str, *keys: str, beside: str, name: str = "", optimizer: tuple[str, ...] = ()
) -> Setting:
    """The setting of a codec."""
    keys = (f"exchange.compress={codec}", *(f"exchange.{key}" for key in keys), *optimizer)
    return Setting(name or codec, keys, beside)


CNN = """
[job]
name = "fashion"
epochs = {epochs}
blas_threads = 1
[data]
source = "{source}"
batch_size = 128
[model]
name = "cnn"
[optimizer]
name = "sgd"
lr = 0.05
momentum = 0.9
schedule = "cosine"
[checkpoint]
every = "end"
"""

LSTM = """
[job]
name = "chars"
epochs = 1
max_steps = {steps}
blas_threads = 1
[data]
source = "python:stdlib"
max_bytes = 4_000_000
sequence_length = 64
batch_size = 32
[model]
name = "char_lstm"
hidden = [128]
embedding = 32
[optimizer]
name = "sgd"
lr = 2.0
momentum = 0.9
schedule = "cosine"
[checkpoint]
every = "end"
"""


def models(fashion: Path, epochs: int, steps: int) -> list[Model]:
    """What is run."""
    sgd, ramp = "dense", 300
    cnn = (
        Setting(sgd, (), sgd),
        compressed("int8", beside=sgd),
        compressed("int4", beside=sgd),
        compressed("top_k:0.01", beside=sgd),
        compressed(
            "top_k:0.01",
            f"compress_ramp_steps={ramp}",
            "compress_min_elements=1024",
            beside=sgd,
            name="top_k:0.01, ratio falls, masked",
        ),
        compressed(
            "top_k:0.01",
            "error_feedback=none",
            beside=sgd,
            name="top_k:0.01, no feedback",
        ),
        compressed("top_k:0.01", "error_feedback=ef21", beside=sgd, name="top_k:0.01, ef21"),
        compressed(
            "top_k:0.01",
            f"compress_ramp_steps={ramp}",
            "compress_min_elements=1024",
            "compress_momentum=0.9",
            beside=sgd,
            name="top_k:0.01, as DGC",
            optimizer=("optimizer.momentum=0",),
        ),
        compressed("power_sgd:4", beside=sgd),
        compressed("sign", beside=sgd),
        compressed(
            "sign",
            f"compress_warmup_steps={ramp}",
            "compress_min_elements=1024",
            beside=sgd,
            name="sign, after dense steps, masked",
        ),
        Setting("dense Adam", ("optimizer.name=adam", "optimizer.lr=0.001"), "dense Adam"),
        Setting(
            "1-bit Adam",
            ("optimizer.name=onebit_adam", "optimizer.lr=0.001", "optimizer.freeze_steps=150"),
            "dense Adam",
        ),
    )
    adam = ("optimizer.name=adam", "optimizer.lr=0.003")
    onebit = ("optimizer.name=onebit_adam", "optimizer.lr=0.003")
    lstm = (
        *(row for row in cnn if row.beside == sgd and row.name != "top_k:0.01, ef21"),
        compressed(
            "power_sgd:4",
            f"compress_warmup_steps={ramp}",
            "compress_min_elements=1024",
            beside=sgd,
            name="power_sgd:4, after dense steps, masked",
        ),
        Setting("dense Adam", adam, "dense Adam"),
        Setting("1-bit Adam", (*onebit, "optimizer.freeze_steps=150"), "dense Adam"),
        Setting("1-bit Adam, frozen later", (*onebit, "optimizer.freeze_steps=400"), "dense Adam"),
    )
    return [
        Model("Fashion-MNIST, cnn", CNN.format(source=fashion.resolve(), epochs=epochs), cnn),
        Model("Python's sources, char_lstm", LSTM.format(steps=steps), lstm, perplexity=True),
    ]


def measure(model: Model, setting: Setting, seed: int, ranks: int) -> tuple[float, float]:
    """The measure (accuracy in points, or perplexity) and bytes that a rank sent in a step."""
    folder = Path(tempfile.mkdtemp(prefix="mls-accuracy-"))
    try:
        job = folder / "job.toml"
        text = model.job
        if "optimizer." in str(setting.keys):
            text = text.replace("momentum = 0.9\n", "")
        job.write_text(text)
        keys = (*setting.keys, f"job.seed={seed}", f"job.out={folder / 'run'}")
        command = [sys.executable, "-m", "mpimlsys", "launch", "-n", str(ranks), str(job)]
        for key in keys:
            command += ["--set", key]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=900, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        result = json.loads((folder / "run" / "result.json").read_text())
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        dense = 8 * (ranks - 1) / ranks * result["parameters"]
        sent = mean(record.get("sent_bytes", dense) for record in records)
        if model.perplexity:
            return math.exp(result["test_loss"]), sent
        return 100 * result["test_accuracy"], sent
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run everything and print as it goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST; needed to run")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="of the cnn (3)")
    parser.add_argument("--steps", type=int, default=1000, help="of the char_lstm (1000)")
    parser.add_argument("--only", default="", help="models whose title holds this")
    parser.add_argument("--rows", help="compressions by name, with a ; between them; default: all")
    parser.add_argument("--plot", type=Path, help="draw the measure against bytes")
    parser.add_argument("--draw", type=Path, help="run nothing: a file of what was printed before")
    options = parser.parse_args()
    if options.draw:
        draw(printed(options.draw.read_text()), options.plot)
        return 0
    if not options.fashion:
        parser.error("--fashion is needed to run")
    drawn: list[tuple[str, list[tuple[str, float, float]]]] = []
    for model in models(options.fashion, options.epochs, options.steps):
        if options.only not in model.title:
            continue
        unit = "perplexity" if model.perplexity else "accuracy"
        print(f"\n{model.title}, {options.ranks} ranks, {options.seeds} seeds\n")
        print(f"| compression | {unit} | to dense | bytes per step | of dense |")
        print("|---|---|---|---|---|", flush=True)
        found: dict[str, tuple[float, float]] = {}
        rows = []
        for setting in model.settings:
            dense_row = setting.name == setting.beside
            if options.rows and not dense_row and setting.name not in options.rows.split(";"):
                continue
            runs = [measure(model, setting, seed, options.ranks) for seed in range(options.seeds)]
            values = [value for value, _ in runs]
            found[setting.name] = (mean(values), mean(sent for _, sent in runs))
            value, sent = found[setting.name]
            base, dense = found[setting.beside]
            apart = (
                f"{100 * (value / base - 1):+.2f} %"
                if model.perplexity
                else f"{value - base:+.2f} points"
            )
            spread = stdev(values) if len(values) > 1 else 0.0
            print(
                f"| {setting.name} | {value:.2f} ± {spread:.2f} | {apart} | {sent:,.0f} "
                f"| {sent / dense:.2%} |",
                flush=True,
            )
            rows.append((setting.name, sent, value))
        drawn.append((model.title, rows))
    if options.plot:
        draw(drawn, options.plot)
    return 0


def printed(text: str) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """What to draw, from what this program printed."""
    drawn: list[tuple[str, list[tuple[str, float, float]]]] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line and not line.startswith("|"):
            drawn.append((line.partition(", 4 ranks")[0], []))
        elif len(cells) == 5 and "±" in cells[1]:
            value, sent = float(cells[1].split()[0]), float(cells[3].replace(",", ""))
            drawn[-1][1].append((cells[0], sent, value))
    return drawn


def draw(drawn: list[tuple[str, list[tuple[str, float, float]]]], path: Path) -> None:
    """Measure against bytes, a panel for each model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(drawn), figsize=(6.4 * len(drawn), 4.4), layout="constrained", squeeze=False
    )
    for axis, (title, rows) in zip(axes[0], drawn, strict=True):
        for (name, sent, value), marker in zip(rows, "osD^v<>pPX*hd" * len(rows), strict=False):
            axis.plot(sent, value, marker, label=name)
        axis.set_xscale("log")
        axis.set_xlabel("bytes that a rank sends per step")
        axis.set_ylabel("perplexity" if "lstm" in title else "test accuracy, %")
        axis.set_title(title)
        axis.margins(0.1)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
