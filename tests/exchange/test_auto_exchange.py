"""What compress = "auto" keeps while it runs, and what goes on after a restart."""

from types import SimpleNamespace

import numpy as np
import pytest

from mpimlsys.compress.auto import CANDIDATES
from mpimlsys.exchange import AllReduce, measure
from mpimlsys.jobfile import CommSection
from mpimlsys.types import Bucket

COMPRESSED = []


class Engine:
    def all_reduce(self, *_, **__):
        return 0

    def compressed_all_reduce(self, _, __, spec, **___):
        COMPRESSED.append(spec)
        return 0

    def wait(self, ticket, **_):
        pass


def context():
    memory = SimpleNamespace(error=-1.0, sent_bytes=0, messages=0, load_state=lambda _: None)
    memory.state = dict
    native = SimpleNamespace(
        Compressor=lambda *_, **__: memory,
        Spec=lambda name, **_: name,
        all_reduce=lambda *_, **__: None,
    )
    return SimpleNamespace(
        native=native,
        comm=CommSection(timeout_s=30),
        timeout_s=30,
        cores=2,
        group=SimpleNamespace(size=2, rank=0),
        peers=SimpleNamespace(open_engine=Engine, nodes=(0, 1), transport=None),
    )


@pytest.fixture
def opened(monkeypatch):
    def open_exchange(dense_s):
        speeds = {codec: measure.Speed(0.0, 0.0, 0.1) for codec in CANDIDATES}
        host = measure.HostMeasures
        monkeypatch.setattr(host, "link", lambda _: (0.0, 0.0))
        monkeypatch.setattr(host, "dense", lambda _, counts: dict.fromkeys(counts, dense_s))
        monkeypatch.setattr(host, "speeds", lambda *_: speeds)
        gradient = np.zeros(100, np.float32)
        bucket = Bucket(0, 0, 100, gradient)
        COMPRESSED.clear()
        return AllReduce(compress="auto").open(context(), [bucket]), bucket

    return open_exchange


def steps(exchange, bucket, count):
    for _ in range(count):
        exchange.begin(bucket)
        exchange.finish()
        exchange.note_loss(1.0)


@pytest.mark.parametrize("dense_s", [0.0, 100.0])
def test_a_long_run_keeps_no_more_than_a_short_one(opened, dense_s):
    exchange, bucket = opened(dense_s)
    steps(exchange, bucket, 200)
    assert exchange.decision is not None
    assert (exchange.decision.chosen.codec is None) == (dense_s == 0.0)
    kept = sum(len(v) for v in vars(exchange).values() if isinstance(v, list))
    steps(exchange, bucket, 200)
    assert sum(len(v) for v in vars(exchange).values() if isinstance(v, list)) == kept


def test_what_is_left_is_sent_after_a_restart_too(opened):
    exchange, bucket = opened(100.0)
    steps(exchange, bucket, 12)
    exchange.note_loss(1.0)
    exchange._back_to_dense("a test")
    state = exchange.state_dict()
    going_on, bucket = opened(100.0)
    going_on.load_state_dict(state, {})
    steps(going_on, bucket, 2)
    assert COMPRESSED == ["none"]
