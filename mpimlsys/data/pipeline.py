"""Batches assembled in the background, ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType

from mpimlsys.types import Array, Dataset, IntArray

_POLL_S = 0.1
_CLOSE_S = 10.0


class Prefetcher(Iterator[tuple[Array, Array]]):
    """Iterates over ``dataset.batch(indices)`` in the order of ``plan``.

    Guarantees: one thread, at most ``depth`` batches ahead; an error in the data set is raised
    where its batch would have come; closing ends the thread.

    Args:
        dataset: read from the background thread.
        plan: indices of each batch, consumed in the background.
        depth: batches ahead.
    """

    def __init__(self, dataset: Dataset, plan: Iterable[IntArray], depth: int = 2) -> None:
        self._dataset, self._plan = dataset, plan
        self._ready: queue.Queue[tuple[Array, Array] | BaseException | None] = queue.Queue(depth)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mpimlsys-data", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> tuple[Array, Array]:
        item = self._ready.get()
        if isinstance(item, tuple):
            return item
        self._ready.put(item)  # the end stays the end
        if item is None:
            raise StopIteration
        raise item

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; a batch that is being assembled is finished first."""
        self._closing.set()
        self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        try:
            for indices in self._plan:
                if not self._offer(self._dataset.batch(indices)):
                    return
            self._offer(None)
        except BaseException as error:  # noqa: BLE001 handed over, and raised by the consumer
            self._offer(error)

    def _offer(self, item: tuple[Array, Array] | BaseException | None) -> bool:
        while not self._closing.is_set():
            try:
                self._ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
