"""The job file: defaults, overrides, provenance, and one clear error per mistake."""

import tomllib
from pathlib import Path

import pytest

from mpimlsys import jobfile
from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import load_job, parse_job

ROOT = Path(__file__).parent.parent


def test_an_empty_file_is_a_job():
    job = parse_job("").job
    assert job.job.epochs == 1
    assert job.job.out == "runs/job"
    assert job.checkpoint.dir == "runs/job/checkpoints"


def test_the_job_of_the_design_is_accepted():
    text = """
    [job]
    name = "mnist-cnn"
    seed = 7
    epochs = 3
    [cluster]
    servers = 0
    [data]
    source = "mnist"
    batch_size = 128
    [model]
    name = "cnn"
    [optimizer]
    name = "sgd"
    lr = 0.05
    momentum = 0.9
    [exchange]
    kind = "allreduce"
    compress = "none"
    error_feedback = "ef21"
    consistency = "bsp"
    [checkpoint]
    dir = "runs/{job.name}"
    every = "5min"
    keep = 3
    """
    job = parse_job(text).job
    assert job.checkpoint.dir == "runs/mnist-cnn"
    assert job.optimizer.momentum == 0.9


def test_overrides_win_and_are_typed():
    resolved = parse_job(
        "[optimizer]\nlr = 0.1\n",
        ["optimizer.lr=1", "job.name=a b", "model.hidden=[8, 4]", "data.standardise=true"],
    )
    assert resolved.job.optimizer.lr == 1.0
    assert isinstance(resolved.job.optimizer.lr, float)
    assert resolved.job.job.name == "a b"
    assert resolved.job.model.hidden == [8, 4]
    assert resolved.job.data.standardise is True


def test_every_value_says_where_it_came_from(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text("[job]\nname = 'x'\n\n[optimizer]\n# why\nlr = 0.1\n")
    resolved = load_job(path, ["job.seed=3"])
    assert resolved.origins["optimizer.lr"] == f"{path}:6"
    assert resolved.origins["job.seed"] == "--set"
    assert resolved.origins["job.epochs"] == "default"
    assert f"lr = 0.1{' ' * 36} # {path}:6" in resolved.to_toml(origins=True)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_what_is_written_reads_back_as_the_same_job(path):
    resolved = load_job(path, ['model.options={a = 1, b = "x"}', "model.hidden=[3]"])
    assert parse_job(resolved.to_toml()).job == resolved.job
    tomllib.loads(resolved.to_toml(origins=True))


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "[optimiser]\nlr = 1",
            [],
            "job:1: unknown section [optimiser]. Did you mean 'optimizer'?",
        ),
        ("[job]\n\nepoch = 1", [], "job:3: unknown key job.epoch. Did you mean 'epochs'?"),
        ("[job]\nepochs = 'a'", [], "job:2: job.epochs must be an integer."),
        ("[job]\nepochs = true", [], "job:2: job.epochs must be an integer."),
        ("[model]\nhidden = [1, 'a']", [], "job:2: model.hidden must be a list of integers."),
        ("[job]\nepochs = 0", [], "job:2: job.epochs = 0 must be at least 1."),
        ("[optimizer]\nlr = nan", [], "job:2: optimizer.lr = nan must be at least 0."),
        (
            "[optimizer]\nname = 'adm'",
            [],
            "job:2: optimizer.name = 'adm' is not available. Did you mean 'adam'?",
        ),
        (
            "[cluster]\ndevice = 'gpu'",
            [],
            "job:2: cluster.device = 'gpu' is not available. Known: cpu, cuda.",
        ),
        ("epochs = 3", [], "job:1: unknown section [epochs]."),
        ("job = 3", [], "job:1: 'job' must be a section, written [job], not a value."),
        ("[job]\nname = 'a/b'", [], "job.name = 'a/b' cannot be used as a folder name"),
        ("[job]\nout = '{job.nam}'", [], "unknown {job.nam}. Did you mean 'job.name'?"),
        ("", ["lr=1"], "--set lr=1: write section.key=value"),
        ("", ["optimizer.lr"], "--set optimizer.lr: write section.key=value"),
        ("", ["optimizer.l=1"], "--set optimizer.l=1: unknown key optimizer.l. Did you mean 'lr'?"),
        ("", ["optimizer.lr=x"], "--set optimizer.lr=x: optimizer.lr must be a number."),
        ("[job\n", [], "job is not valid TOML"),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(text, overrides, message):
    with pytest.raises(ConfigError) as error:
        parse_job(text, overrides)
    assert message in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the job file .*nowhere.toml: No such file"):
        load_job(tmp_path / "nowhere.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the job file"):
        load_job(binary)


def test_the_page_on_the_job_file_is_up_to_date():
    page = (ROOT / "docs" / "job-file.md").read_text()
    assert page == jobfile.describe(), "run `make docs`"
