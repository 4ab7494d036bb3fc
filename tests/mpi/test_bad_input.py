"""A mistake ends all ranks with one clear message from one of them, and loses nothing."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROWS = "a,b,y\n1,2,0\n3,4,1\n5,6,1\n7,8,0\n"


def train(mpirun, job, *settings, ranks=2, resume=False):
    arguments = [word for setting in settings for word in ("--set", setting)]
    return mpirun(ranks, ["-m", "mpimlsys", "train", job, *arguments, *["--resume"] * resume])


def one_error(done, status=2):
    """The single error line of a run that failed."""
    assert done.returncode == status, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "mpimlsys: error" in line]
    assert len(lines) == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.fixture
def job(tmp_path, write_job):
    """A job on four rows in a CSV file."""
    (tmp_path / "rows.csv").write_text(ROWS)
    return write_job(
        f"[job]\nout = '{tmp_path / 'run'}'\n[data]\nsource = '{tmp_path / 'rows.csv'}'\n"
        "batch_size = 2\ntest_fraction = 0\n[model]\nname = 'logistic'\n"
    )


def test_the_job_of_these_tests_works(mpirun, job):
    assert train(mpirun, job).returncode == 0


@pytest.mark.one_mpi
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no such file or folder"),
        ("", "rows.csv is empty"),
        ("a,b,y\n", "has no rows"),
        ("a,b,y\n1,2,0\n3,nan,1\n", "row 2, column 2: the input is nan"),
        ("a,b,y\n1,2,0\n3,,1\n", "line 3, column 'b': the value is missing"),
        ("a,b,y\n1,2,0\n3,x,1\n", "line 3, column 'b': 'x' is not a number"),
        ("a,b,y\n1,2,0\n3,1\n", "line 3: 2 cells, but the rows before have 3"),
        ("a,b,y\n1,2,0\n3,4,-1\n", "row 2: a label of -1"),
        ("a,b,y\n1,2,0\n3,4,0.5\n", "row 2: 0.5 is not a class"),
        ("a,b,y\n1,2,0\n", "1 training samples cannot be shared by 2 ranks; start at most 1"),
    ],
)
def test_data_that_cannot_be_used(mpirun, job, tmp_path, rows, message):
    if rows is None:
        (tmp_path / "rows.csv").unlink()
    else:
        (tmp_path / "rows.csv").write_text(rows)
    assert message in one_error(train(mpirun, job))
    assert not (tmp_path / "run").exists()


@pytest.mark.one_mpi
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.name=logistc", "Did you mean 'logistic'?"),
        ("optimizer.lrr=1", "unknown key optimizer.lrr. Did you mean 'lr'?"),
        ("model.name=cnn", "needs pictures of at least 16x16"),
        ("model.name=nowhere:model", "No module named 'nowhere'"),
        ("model.dropout=0.5", "model.dropout does not apply"),
        ("cluster.servers=1", "leaves servers without work"),
        ("cluster.servers=5", "leaves no worker among 2 ranks"),
        ("checkpoint.every=often", "write a time ('30s', '5min', '1h')"),
        ("data.target=z", "no column 'z' (data.target)"),
    ],
)
def test_jobs_that_cannot_be_run(mpirun, job, setting, message):
    assert message in one_error(train(mpirun, job, setting))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_job_file_that_one_rank_cannot_read(mpirun, job, tmp_path, failing):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from mpimlsys import cli, config\n"
        f"missing = config.environment().rank_hint == {failing}\n"
        "sys.exit(cli.main(['train', sys.argv[1] + missing * '.missing']))\n"
    )
    message = one_error(mpirun(2, [script, job]))
    assert f"rank {failing}: cannot read the job file {job}.missing" in message
    assert not (tmp_path / "run").exists()


def test_an_extension_that_does_not_fit_on_one_rank(mpirun, job, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from mpimlsys import cli, config, native\n"
        "if config.environment().rank_hint == 1:\n"
        "    native.flavour_for = lambda *_: 'of_another_kind'\n"
        "sys.exit(cli.main(['train', sys.argv[1]]))\n"
    )
    outcome = tmp_path / "outcome.json"
    message = one_error(mpirun(2, [script, job], env={"MPIMLSYS_OUTCOME": str(outcome)}))
    assert "'of_another_kind'), but mpimlsys was built for" in message
    assert json.loads(outcome.read_text()) == {"status": 2}


@pytest.mark.one_mpi
def test_a_file_in_the_way_of_the_run(mpirun, job, tmp_path):
    (tmp_path / "run").write_text("mine")
    assert f"cannot write {tmp_path / 'run'}" in one_error(train(mpirun, job))
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.one_mpi
def test_labels_beyond_the_model_in_new_data(mpirun, job, tmp_path):
    (tmp_path / "rows.csv").write_text("a,b,y\n" + "".join(f"{i},{-i},{i % 3}\n" for i in range(9)))
    assert train(mpirun, job).returncode == 0
    (tmp_path / "new.csv").write_text("a,b,y\n1,2,3\n")
    done = mpirun(
        2, ["-m", "mpimlsys", "evaluate", tmp_path / "run", "--data", tmp_path / "new.csv"]
    )
    assert "a label of 3, but the model knows 3 classes" in one_error(done)


@pytest.mark.one_mpi
def test_a_loss_that_diverges_names_step_rank_and_layer(mpirun, tmp_path, write_job):
    job = write_job(
        f"[job]\nout = '{tmp_path / 'run'}'\n[model]\nname = 'cnn'\n[optimizer]\nlr = 1e12\n"
        "[checkpoint]\nevery = '1 steps'\n"
    )
    message = one_error(train(mpirun, job), status=1)
    assert "the loss became nan at step" in message
    assert "rank 0: not finite first in" in message
    assert "optimizer.lr is 1e+12" in message
    assert "The last good checkpoint is" in message
    assert "RuntimeWarning" not in message
    saved = Path(message.partition("checkpoint is ")[2].rstrip("."))
    for name in saved.iterdir():
        assert name.stat().st_size
    done = mpirun(1, ["-m", "mpimlsys", "evaluate", tmp_path / "run"])
    assert "step" in done.stdout


@pytest.mark.one_mpi
def test_nothing_that_is_not_finite_is_saved(mpirun, tmp_path, write_job):
    """A step whose loss is finite can leave parameters that are not; they must not be kept."""
    model = tmp_path / "explodes.py"
    model.write_text(
        "import numpy as np\nfrom mpimlsys import nn\n"
        "class Explodes(nn.Linear):\n"
        "    loss = nn.MSELoss()\n"
        "    def backward(self, grad, ready):\n"
        "        grad = super().backward(grad, ready)\n"
        "        self.weight.grad[...] = np.inf\n"
        "        return grad\n"
        "def model():\n    return Explodes(2, 1)\n"
    )
    (tmp_path / "rows.csv").write_text(ROWS)
    job = write_job(
        f"[job]\nout = '{tmp_path / 'run'}'\n[data]\nsource = '{tmp_path / 'rows.csv'}'\n"
        "targets = 'numbers'\ntest_fraction = 0\n[model]\nname = 'explodes:model'\n"
        "[checkpoint]\nevery = '1 steps'\n"
    )
    done = mpirun(1, ["-m", "mpimlsys", "train", job], cwd=tmp_path)
    assert "not finite" in one_error(done, status=1)
    assert not list((tmp_path / "run").glob("checkpoints/step-*"))


@pytest.mark.one_mpi
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="mounting a small disk needs root"
)
def test_a_full_disk_ends_all_ranks_and_keeps_what_was_saved(mpirun, tmp_path, write_job):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, timeout=30
    )
    if mounted.returncode:
        pytest.skip(f"this container may not mount: {mounted.stderr.decode().strip()}")
    try:
        job = write_job(
            f"[job]\nout = '{disk / 'run'}'\nepochs = 50\n[model]\nname = 'cnn'\n"
            "[checkpoint]\nevery = '20 steps'\nkeep = 50\n"
        )
        message = one_error(train(mpirun, job))
        assert "No space left on device" in message
        assert "What was saved before is kept" in message
        done = mpirun(1, ["-m", "mpimlsys", "evaluate", disk / "run"])
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", "-l", disk], check=True, timeout=30)


@pytest.mark.one_mpi
def test_a_damaged_checkpoint_is_told_and_the_one_before_used(mpirun, tmp_path, write_job):
    job = write_job(
        f"[job]\nout = '{tmp_path / 'run'}'\nmax_steps = 30\n[model]\nname = 'mlp'\n"
        "[checkpoint]\nevery = '10 steps'\n"
    )
    assert train(mpirun, job).returncode == 0
    newest = tmp_path / "run" / "checkpoints" / "step-0000000030" / "state.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    done = train(mpirun, job, "job.max_steps=31", resume=True)
    assert done.returncode == 0, done.stderr
    assert "checkpoint step-0000000030 is damaged" in done.stdout
    assert "going on after step 20" in done.stdout


@pytest.mark.one_mpi
def test_resuming_another_job_is_refused(mpirun, tmp_path, write_job):
    job = write_job(f"[job]\nout = '{tmp_path / 'run'}'\nmax_steps = 3\n[model]\nname = 'mlp'\n")
    assert train(mpirun, job).returncode == 0
    message = one_error(train(mpirun, job, "data.batch_size=32", resume=True))
    assert (
        "cannot resume: the checkpoint was written with batch_size = 64, the job now has 32"
        in message
    )


@pytest.mark.one_mpi
def test_an_earlier_run_is_kept(mpirun, tmp_path, write_job):
    job = write_job(f"[job]\nout = '{tmp_path / 'run'}'\nmax_steps = 3\n[model]\nname = 'mlp'\n")
    for _ in range(2):
        done = train(mpirun, job)
        assert done.returncode == 0, done.stderr
    assert f"kept the earlier run as {tmp_path / 'run.1'}" in done.stdout
    assert (tmp_path / "run.1" / "result.json").exists()


def test_a_rank_that_crashes_ends_the_others(mpirun, tmp_path):
    script = tmp_path / "crash.py"
    script.write_text(
        "import sys, numpy as np, mpimlsys as mls\n"
        "from mpimlsys import nn\n"
        "from mpimlsys.cli import main\n"
        "ctx = mls.init()\n"
        "class Broken(mls.data.ArrayDataset):\n"
        "    def batch(self, indices):\n"
        "        if ctx.rank == 1: raise mls.errors.CorruptData('row 17 is gone')\n"
        "        return super().batch(indices)\n"
        "data = Broken(np.ones((40, 3), np.float32), np.zeros(40, np.int64))\n"
        "trainer = mls.Trainer(nn.Linear(3, 2), loss=nn.CrossEntropyLoss(),\n"
        "                      optimizer=mls.optim.sgd(0.1))\n"
        "try:\n"
        "    trainer.fit(data, epochs=5, batch_size=8)\n"
        "except mls.errors.CorruptData as error:\n"
        "    print(f'rank {ctx.rank} heard: {error}', flush=True)\n"
    )
    done = mpirun(3, [script])
    assert done.returncode == 0, done.stderr
    # a launcher may run lines of several ranks together
    heard = re.findall(r"rank (\d) heard: rank 1: row 17 is gone", done.stdout)
    assert sorted(heard) == ["0", "1", "2"], done.stdout


SKEWED = """
import os, sys, time
if os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")) == "1":
    right = time.time
    time.time = lambda: right() - 300
from mpimlsys import cli
sys.exit(cli.main())
"""


def test_clocks_that_differ_by_minutes_are_told(mpirun, write_job, tmp_path):
    job = write_job(f"[job]\nout = '{tmp_path / 'run'}'\nmax_steps = 1\n[model]\nname = 'mlp'\n")
    done = mpirun(2, ["-c", SKEWED, "train", job])
    assert done.returncode == 0, done.stderr
    told = "warning: the clock of rank 1's host is 300 s behind that of rank 0: times in logs"
    assert done.stdout.count(told) == 1
