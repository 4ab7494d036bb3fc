"""Host files of both kinds; what is wrong with them is said in one sentence."""

import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.launch.hosts import check_room, read, without_address


def resolve(name):
    if name.startswith("n"):
        raise OSError(name)


@pytest.fixture
def hosts_file(tmp_path):
    def write(text):
        path = tmp_path / "hosts"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a slots=2\nb.c slots = 4 max-slots=8\n", [("a", 2), ("b.c", 4)]),
        ("a:2\nb-1:4\n", [("a", 2), ("b-1", 4)]),
        ("# all\n\na  # the first\n10.0.0.1\n", [("a", None), ("10.0.0.1", None)]),
    ],
)
def test_both_formats_are_read(hosts_file, text, hosts):
    assert read(hosts_file(text)) == hosts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no host in it"),
        ("# a\n", "there is no host in it"),
        ("a\n=2\n", "line 2: '=2' names no host"),
        ("a:two\n", "line 1: 'a:two' names no host"),
    ],
)
def test_unusable_files(hosts_file, text, message):
    with pytest.raises(ConfigError, match=message):
        read(hosts_file(text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "hosts")


def test_hosts_without_an_address_are_named():
    hosts = [("a", 1), ("n1", 1), ("n7", None), ("n1", 1)]
    assert without_address(hosts, resolve) == ["n1", "n7"]


def test_more_ranks_than_slots(tmp_path):
    check_room([("a", 2), ("b", 2)], tmp_path, 4)
    check_room([("a", 2), ("b", None)], tmp_path, 9)
    with pytest.raises(ConfigError, match=r"-n 5: the hosts in .* take 4\. Start 4 ranks at most"):
        check_room([("a", 2), ("b", 2)], tmp_path, 5)
