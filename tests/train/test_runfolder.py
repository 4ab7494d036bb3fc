"""A run's folder: earlier runs are kept, and mistakes are told with their remedy."""

import json
import os
import subprocess
import sys

import pytest

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train.runfolder import RunFolder


def create(path, resume=False, said=None):
    say = pytest.fail if said is None else said.append
    return RunFolder.create(path, resume=resume, say=say)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_run(path, name="old"):
    run = create(path)
    run.write_job(f'[job]\nname = "{name}"\n')
    return run


def test_a_new_run(tmp_path):
    run = create(tmp_path / "runs" / "mnist")
    assert run.path.is_dir()
    assert {
        path.relative_to(run.path).as_posix()
        for path in (run.job_file, run.metrics, run.result_file, run.checkpoints, run.curves)
    } == {"job.toml", "metrics.jsonl", "result.json", "checkpoints", "curves.png"}


def test_what_is_written_comes_back(tmp_path):
    run = make_run(tmp_path / "run")
    run.write_result({"test_accuracy": 0.98, "train_loss": float("nan")})
    assert run.read_job() == {"job": {"name": "old"}}
    assert run.read_result() == {"test_accuracy": 0.98, "train_loss": None}
    assert names(run.path) == ["job.toml", "result.json"]


def test_an_earlier_run_is_kept_under_the_first_free_number(tmp_path):
    path, said = tmp_path / "run", []
    (tmp_path / "run.2").mkdir()
    for name in ("first", "second", "third"):
        create(path, said=said).write_job(f'[job]\nname = "{name}"\n')
    assert said == [
        f"kept the earlier run as {tmp_path}/run.1",
        f"kept the earlier run as {tmp_path}/run.3",
    ]
    kept = {
        name: RunFolder.open(tmp_path / name).read_job()["job"]["name"]
        for name in ("run.1", "run.3", "run")
    }
    assert kept == {"run.1": "first", "run.3": "second", "run": "third"}


def test_a_folder_that_is_not_a_run_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    create(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_link_to_a_run_stays(tmp_path):
    make_run(tmp_path / "disk" / "run")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "run")
    said = []
    create(link, said=said)
    assert link.is_symlink()
    assert names(link) == []
    assert said == [f"kept the earlier run as {tmp_path}/disk/run.1"]


def test_a_run_that_is_the_current_folder_is_not_moved(tmp_path, monkeypatch):
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(ConfigError, match="current folder"):
        create(tmp_path / "run")
    assert names(tmp_path) == ["run"]


def test_resuming_leaves_everything(tmp_path):
    run = make_run(tmp_path / "run")
    run.metrics.write_text("{}\n")
    assert create(run.path, resume=True).metrics.read_text() == "{}\n"


def test_nothing_to_resume_starts_the_run(tmp_path):
    said = []
    assert create(tmp_path / "run", resume=True, said=said).path.is_dir()
    assert said == [f"nothing to resume in {tmp_path}/run: starting the run"]


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=r"Move the file that is in.*job\.out"):
            create(path)


def test_a_parent_that_is_read_only(tmp_path):
    """In a child, because root may write everywhere unless it gives up that right."""
    tmp_path.chmod(0o500)
    code = (
        "import sys; from pathlib import Path; from mpimlsys.train.runfolder import RunFolder\n"
        "RunFolder.create(Path(sys.argv[1]), False, print)"
    )
    drop = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    done = subprocess.run(
        [*(drop if os.geteuid() == 0 else []), sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Permission denied. Make its folder writable" in done.stderr
    assert "ConfigError" in done.stderr


def test_opening_what_is_not_a_run(tmp_path):
    make_run(tmp_path / "mnist-cnn")
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=r"no job\.toml in it\. Did you mean 'mnist-cnn'\?"):
        RunFolder.open(tmp_path / "mnist_cnn")
    with pytest.raises(ConfigError, match=r"no job\.toml in it\. Known: mnist-cnn\."):
        RunFolder.open(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"is not a run: there is no job\.toml in it\.$"):
        RunFolder.open(tmp_path / "none" / "run")


def test_a_result_that_is_not_there(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no result yet\..*--resume"):
        run.read_result()


@pytest.mark.parametrize("text", ["", "[]", "{", "\0"])
def test_a_damaged_result(tmp_path, text):
    run = make_run(tmp_path / "run")
    run.result_file.write_text(text)
    with pytest.raises(CorruptData, match=r"result\.json"):
        run.read_result()
    run.job_file.write_text("[")
    with pytest.raises(CorruptData, match=r"job\.toml"):
        run.read_job()


def test_a_result_is_replaced_at_once(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    run.write_result({"steps": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"result\.json: No space left on device\. Make room"):
        run.write_result({"steps": 2})
    assert json.loads(run.result_file.read_text()) == {"steps": 1}
