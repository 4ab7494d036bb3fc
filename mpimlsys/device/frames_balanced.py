"""The balanced exchange of csrc/comm/frames_balanced.cpp, for what is largest.

The GPU selects. What goes to which owner is written on the host, from the frame of the selection:
its elements are few.
"""

from __future__ import annotations

import numpy as np

from mpimlsys.device.division import BALANCED, Division, Part
from mpimlsys.device.frame_exchange import FrameExchange
from mpimlsys.kernels.codecs.random import key_of


def balanced(now: FrameExchange) -> None:
    """Owners have blocks in turn, and get at most their share of what is largest."""
    memory, passage, request = now.memory, now.passage, now.request
    native, spec = passage.native, request.spec
    rank, size = passage.rank, passage.size
    division = Division(BALANCED)
    shares = [division.share(owner, now.count, size) for owner in range(size)]
    now.divide(division)
    now.load()
    selection = now.frame_of(native.balanced_selection(spec), key_of(now.key, rank + 1))
    sent, lengths, told = native.balanced_frames(
        spec, selection, now.count, rank=rank, size=size, key=now.key
    )
    [placed] = passage.to_gpu([told], request)
    now.settle(native.balanced_selection(spec), Part(0, now.count), placed)
    frames = np.split(sent, np.cumsum(lengths)[:-1])
    came = passage.exchanged(frames, shares[rank], request)
    owned = now.owned_for(division)
    now.add(spec, shares[rank], passage.to_gpu(came, request), owned)

    estimate = memory.kept("estimate", now.count) if memory.feedback == "ef21" else 0
    known = now.room(shares[rank])
    if estimate:
        now.collect(estimate, division, rank, known.address)
    telling = native.balanced_telling(spec, now.count, size=size, share=shares[rank])
    key = (key_of(now.key, rank + 1) + 1) % 2**64
    own = now.encode_owned(telling, owned, shares[rank], known.address, key)
    memory.messages = 2 * (size - 1)
    memory.sent_bytes = sum(lengths) - lengths[rank] + (size - 1) * len(own)
    sums = passage.gathered(own, shares, request)
    for peer, placed in enumerate(passage.to_gpu(sums, request)):
        news = now.room(shares[peer])
        if estimate:
            now.collect(estimate, division, peer, news.address)
        now.add(spec, shares[peer], [placed], news.address)
        now.spread(news.address, division, peer, estimate or now.x)
