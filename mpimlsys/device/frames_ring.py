"""The ring of csrc/comm/frames_ring.cpp: what is passed on was decoded, added to and encoded again.

A chunk is one frame, and the owners' frames are gathered, which is a ring too.
"""

from __future__ import annotations

from mpimlsys.device.division import Division, parts_of
from mpimlsys.device.frame_exchange import FLOAT, FrameExchange


def ring(now: FrameExchange) -> None:
    """Partial sums go around; each rank keeps the errors of its own roundings."""
    memory, passage, request = now.memory, now.passage, now.request
    rank, size = passage.rank, passage.size
    now.divide(Division())
    now.load()
    chunks = parts_of(now.count, 1, size)
    for step in range(1, size):
        [frame] = now.encode([chunks[rank - step]])
        memory.sent_bytes += len(frame)
        partial = chunks[rank - step - 1]
        came = passage.passed_on(frame, partial.length, request)
        place = now.y + partial.start * FLOAT
        now.add(request.spec, partial.length, passage.to_gpu([came], request), place)
    [mine] = now.encode([chunks[rank]])
    sums = passage.gathered(mine, [chunk.length for chunk in chunks], request)
    memory.messages = 2 * (size - 1)
    memory.sent_bytes += sum(len(frame) for frame in sums) - len(sums[(rank + 1) % size])
    for chunk, placed in zip(chunks, passage.to_gpu(sums, request), strict=True):
        now.deliver(placed, chunk)
