"""Event files as TensorBoard reads them: records, checksums, messages."""

import errno
import os
import struct

import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.train import events
from mpimlsys.train.events import EventWriter

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read(folder):
    """The events of all files, in TensorBoard's order."""
    found = []
    for path in sorted(folder.iterdir()):
        assert "tfevents" in path.name
        data = path.read_bytes()
        while data:
            length, length_crc = struct.unpack_from("<QI", data)
            body, (body_crc,) = data[12 : 12 + length], struct.unpack_from("<I", data, 12 + length)
            assert length_crc == masked(data[:8])
            assert body_crc == masked(body)
            found.append(event_pb2.Event.FromString(body))
            data = data[16 + length :]
    return found


def scalars(event):
    return {value.tag: value.simple_value for value in event.summary.value}


def test_the_checksum_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert events._masked_crc(b"123456789") == struct.pack("<I", masked(b"123456789"))


def test_scalars_come_back(tmp_path):
    writer = EventWriter(tmp_path / "deep" / "events", clock=lambda: 1_700_000_000.25)
    writer.step(1, loss=2.5, lr=0.5, samples_per_s=100.0)
    writer.step(300, loss=float("nan"), lr=1e-3, samples_per_s=1e300)
    writer.scalar("test_accuracy", 0.75, 300)
    writer.close()
    writer.close()
    first, *rest = read(tmp_path / "deep" / "events")
    assert first.file_version == "brain.Event:2"
    assert [event.wall_time for event in (first, *rest)] == [1_700_000_000.25] * 4
    assert [event.step for event in rest] == [1, 300, 300]
    assert scalars(rest[0]) == {"loss": 2.5, "lr": 0.5, "samples_per_s": 100.0}
    later = scalars(rest[1])
    assert later["loss"] != later["loss"]
    assert later["samples_per_s"] == float("inf")
    assert scalars(rest[2]) == {"test_accuracy": 0.75}


@pytest.mark.parametrize("step", [0, 127, 128, 16_383, 16_384, 10**12])
def test_steps_of_any_size(tmp_path, step):
    writer = EventWriter(tmp_path)
    writer.scalar("x", 1.0, step)
    writer.close()
    assert read(tmp_path)[-1].step == step


def test_a_resumed_run_hides_the_later_steps_of_the_earlier_attempt(tmp_path):
    EventWriter(tmp_path).close()
    writer = EventWriter(tmp_path, first_step=100)
    writer.scalar("x", 1.0, 101)
    writer.close()
    assert len(list(tmp_path.iterdir())) == 2
    *_, start, scalar = read(tmp_path)
    assert start.session_log.status == event_pb2.SessionLog.START
    assert (start.step, scalar.step) == (101, 101)


def test_events_can_be_followed_while_the_run_goes_on(tmp_path):
    now = [0.0]
    writer = EventWriter(tmp_path, clock=lambda: now[0])
    assert len(read(tmp_path)) == 1
    writer.scalar("x", 1.0, 1)
    now[0] = 2.0
    writer.scalar("x", 1.0, 2)
    assert len(read(tmp_path)) == 3
    writer.close()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Move the file that is in .*job\.out"):
        EventWriter(tmp_path / "file")


def test_a_full_disk_leaves_whole_records(tmp_path, monkeypatch):
    writer = EventWriter(tmp_path)
    writer.scalar("x", 1.0, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(ConfigError, match="No space left"):
            writer.close()
    writer.close()
    assert len(read(tmp_path)) == 1
