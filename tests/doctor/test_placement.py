"""Judgement over made-up places, and how they are shown."""

import dataclasses

import pytest
from test_findings import TWO, UNDER_MPIRUN, facts, only, troubles

from mpimlsys.doctor.facts import Place
from mpimlsys.doctor.findings import can_train, judge
from mpimlsys.doctor.report import table, text


def place(host="n1", cores="0", *, allowed="0-3", gpus=(), memory="one", clock_offset_s=0.0):
    return Place(host, cores, allowed, "0", gpus, memory, clock_offset_s)


def judged(*places, launcher="mpirun", **changes):
    start = dataclasses.replace(UNDER_MPIRUN, inside=launcher)
    return judge(facts(start=start, ranks=TWO, places=places, **changes))


GPUS = ("GPU-aaaaaaaa-1", "GPU-bbbbbbbb-2")


@pytest.mark.parametrize(
    ("places", "subject", "words"),
    [
        (
            (place(cores="0"), place(cores="0")),
            "binding",
            ("ranks 0-1 of n1 are bound to the same cores (0)", "--map-by slot:PE=2"),
        ),
        (
            [place(cores=cores) for cores in ("0", "1", "2-3", "0")],
            "binding",
            ("ranks 0,3 of n1", "slot:PE=1"),
        ),
        (
            (place(memory="a"), place(cores="1", memory="b"), place(cores="2", memory="a")),
            "one memory",
            ("ranks 0,2 and 1 of n1", "docker run --ipc=host"),
        ),
        (
            (place(gpus=GPUS[:1]), place(cores="1", gpus=GPUS[:1])),
            "GPU per rank",
            ("ranks 0-1 (n1) would use GPU-aaaaaaaa-1", "--gpus-per-task=1"),
        ),
        (
            [place(cores=str(rank), gpus=GPUS) for rank in range(3)],
            "GPU per rank",
            ("ranks 0,2 (n1) would use GPU-aaaaaaaa-1",),
        ),
        (
            (place("n1", gpus=GPUS[:1]), place("n2", gpus=GPUS[:1])),
            "GPU per rank",
            ("ranks 0-1",),
        ),
        (
            (place("n1"), place("n2", clock_offset_s=-3723.2)),
            "clocks",
            ("they differ from n1: n2 is 1 h 2 min 3 s behind", "chrony"),
        ),
        (
            [place("n1"), *(place(f"n{2 + host}", clock_offset_s=60.0) for host in range(5))],
            "clocks",
            ("n2 is 1 min ahead; n3 is 1 min ahead; n4 is 1 min ahead; and 2 more",),
        ),
    ],
)
def test_each_defect_has_its_finding_and_remedy(places, subject, words):
    found = judged(*places)
    assert troubles(found) == [(subject, "warning")]
    assert can_train(found)
    defect = only(found, subject)
    assert defect.remedy
    for word in words:
        assert word in f"{defect.what} {defect.remedy}"


@pytest.mark.parametrize(
    "places",
    [
        (place(cores="0"), place(cores="1")),
        (place(cores="0-3"), place(cores="0-3")),  # not bound
        (place("n1", cores="0"), place("n2", cores="0")),
        (place(gpus=GPUS), place(cores="1", gpus=GPUS)),  # each takes its own
        (place(gpus=GPUS[:1]), place(cores="1", gpus=GPUS[1:])),
        (place(gpus=GPUS[:1]), place(cores="1")),
        (place("n1"), place("n2", clock_offset_s=2.0)),
    ],
)
def test_what_is_right_is_no_defect(places):
    assert troubles(judged(*places)) == []


def test_too_few_cores_are_not_called_wrong_binding():
    places = [place(cores="0", allowed="0")] * 2
    found = judge(
        facts(
            start=UNDER_MPIRUN, ranks=dataclasses.replace(TWO, node_cores=1), places=tuple(places)
        )
    )
    assert troubles(found) == [("cores", "warning")]


def test_wrong_binding_is_not_called_too_few_cores():
    ranks = dataclasses.replace(TWO, node_cores=1)
    found = judge(facts(start=UNDER_MPIRUN, ranks=ranks, places=(place(), place())))
    assert troubles(found) == [("binding", "warning")]


@pytest.mark.parametrize(
    ("launcher", "command"),
    [("srun", "srun --cpus-per-task=2 --cpu-bind=cores"), ("hydra", "mpiexec -bind-to core:2")],
)
def test_the_remedy_is_of_the_launcher_in_use(launcher, command):
    assert command in only(judged(place(), place(), launcher=launcher), "binding").remedy


def test_equal_places_share_a_row():
    places = [
        place(cores="0", gpus=("GPU-01234567-89",)),
        *[place("n2", cores="0-3")] * 3,
        place(cores="1"),
    ]
    assert table(places) == [
        "ranks  host  cores  NUMA  GPU",
        "0      n1    0      0     GPU-01234567",
        "1-3    n2    0-3    0     none",
        "4      n1    1      0     none",
    ]


def test_many_hosts_that_are_alike_share_rows():
    places = [
        place(f"n{host}", cores=str(core), gpus=(f"GPU-{host}-0", f"GPU-{host}-1"))
        for host in range(50)
        for core in range(2)
    ]
    assert table(places) == [
        "ranks     host      cores  NUMA  GPU",
        "50 ranks  50 hosts  0      0     one of 2",
        "50 ranks  50 hosts  1      0     one of 2",
    ]


def test_the_table_is_never_longer_than_16_lines():
    shown = table([place(cores=str(core)) for core in range(200)])
    assert len(shown) == 16
    assert shown[-1] == "186 more rows: mpimlsys doctor --json"


def test_the_table_stands_before_what_to_do():
    found = judged(place(), place())
    lines = text(found, [place(), place()]).splitlines()
    head = lines.index("ranks  host  cores  NUMA  GPU")
    assert lines[head - 1] == ""
    assert lines[head + 2 : head + 4] == ["", "What to do"]
