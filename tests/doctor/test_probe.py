"""Reading control groups, NUMA nodes and GPUs, comparing the ranks, keeping a deadline."""

import subprocess
import sys
import time

import pytest

from mpimlsys.doctor.mpi import compare
from mpimlsys.doctor.probe import numa_nodes, quota_cores, visible_gpus
from mpimlsys.doctor.ranges import compact, expand


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"": "max 100000", "jobs": "max 100000", "jobs/mine": "max 100000"}, None),
        ({"jobs/mine": "150000 100000"}, 1.5),
        ({"jobs": "200000 100000", "jobs/mine": "max 100000"}, 2.0),
        ({"jobs": "200000 100000", "jobs/mine": "400000 100000"}, 2.0),
        ({"other": "50000 100000"}, None),
    ],
)
def test_the_least_quota_of_all_levels_counts(tmp_path, limits, expected):
    root = tmp_path / "cgroup"
    (root / "jobs" / "mine").mkdir(parents=True)
    (root / "other").mkdir()
    for group, limit in limits.items():
        (root / group / "cpu.max").write_text(limit + "\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/jobs/mine\n")
    assert quota_cores(root, membership) == expected


def test_version_1_control_groups(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    membership = tmp_path / "membership"
    membership.write_text("4:cpu,cpuacct:/\n")
    assert quota_cores(tmp_path, membership) == 3.0
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota_cores(tmp_path, membership) is None


@pytest.mark.parametrize(
    ("numbers", "text"),
    [(set(), ""), ({3}, "3"), ({0, 1, 2, 5}, "0-2,5"), ({7, 1, 9, 8}, "1,7-9")],
)
def test_sets_are_written_as_the_kernel_does(numbers, text):
    assert compact(numbers) == text
    assert expand(text + "\n") == numbers


def test_numa_nodes_of_cores(tmp_path):
    for node, cores in {0: "0-1,4-5", 1: "2-3,6-7", 2: ""}.items():
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(cores + "\n")
    assert numa_nodes(tmp_path, frozenset({4})) == "0"
    assert numa_nodes(tmp_path, frozenset({1, 2})) == "0-1"
    assert numa_nodes(tmp_path / "none", frozenset({1})) == ""


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, ("GPU-aa1", "GPU-ab2")),
        ("", ()),
        ("1", ("GPU-ab2",)),
        ("1,0", ("GPU-ab2", "GPU-aa1")),
        ("GPU-ab, 0", ("GPU-ab2", "GPU-aa1")),
        ("0,7,1", ("GPU-aa1",)),
        ("-1,0", ()),
        ("NoDevFiles", ()),
        ("MIG-5f", ("MIG-5f",)),
    ],
)
def test_the_gpus_that_cuda_shows(selection, expected):
    assert visible_gpus(["GPU-aa1", "GPU-ab2"], selection) == expected


def test_differences_name_values_and_ranks():
    same = {"Python": "3.11", "MPI": "5"}
    other = {"Python": "3.12", "MPI": "5"}
    assert compare([same, same]) == {}
    assert compare([same, other, same]) == {"Python": {"3.11": (0, 2), "3.12": (1,)}}


def test_the_deadline_ends_what_holds_the_interpreter():
    hang = (
        "import ctypes\n"
        "from mpimlsys.doctor.watchdog import deadline\n"
        "with deadline(0.5, 'MPI hangs'):\n"
        "    ctypes.PyDLL(None).sleep(120)\n"  # PyDLL keeps the lock
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", hang], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9
    assert done.stderr == "MPI hangs\n"
    assert time.monotonic() - begin < 60


def test_what_ends_in_time_is_not_disturbed():
    fine = (
        "from mpimlsys.doctor.watchdog import deadline\n"
        "with deadline(30, 'too late'):\n"
        "    print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", fine], capture_output=True, text=True, timeout=25)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
