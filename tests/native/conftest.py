"""The extension, and ranks as threads of the test's process."""

import threading

import mpi4py
import pytest

from mpimlsys import native
from mpimlsys.errors import MpimlsysError, Timeout


@pytest.fixture(scope="session")
def extension():
    mpi4py.rc.initialize = False  # the library is loaded, but MPI does not start
    return native.load()


@pytest.fixture(scope="session")
def on_ranks(extension):
    """``on_ranks(n, body)`` runs ``body(transport, rank)`` on threads.

    Returns what each rank returned, or the error that it raised.
    """

    def run(ranks, body):
        world = extension.ThreadWorld(ranks)
        results = [None] * ranks

        def on_rank(rank):
            try:
                results[rank] = body(world.transport(rank), rank)
            except MpimlsysError as error:
                results[rank] = error

        threads = [threading.Thread(target=on_rank, args=(r,), daemon=True) for r in range(ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a rank hangs"
        return results

    return run


@pytest.fixture(scope="session")
def report_of_a_wait():
    """``report_of_a_wait(engine, ticket)``: what a wait in vain says once the thread waits too."""

    def report(engine, ticket):
        for _ in range(1000):
            try:
                engine.wait(ticket, timeout_s=0.02)
            except Timeout as error:
                if "waiting for rank" in str(error):
                    return str(error)
        return pytest.fail("the engine's thread waits for nobody")

    return report
