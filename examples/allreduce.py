"""Average and add up arrays over the ranks.

mpirun -n 4 python examples/allreduce.py
"""

import numpy as np

import mpimlsys as mls

ctx = mls.init()

x = np.full(4, ctx.rank, np.float32)
mls.allreduce(x)  # in place, averaged
print(f"rank {ctx.rank} of {ctx.size}: the average of all ranks is {x[0]}")

total = np.array([1])
mls.allreduce(total, op="sum")
assert total[0] == ctx.size

weights = np.random.default_rng(ctx.rank).normal(size=3)
mls.broadcast(weights, root=0)  # now rank 0's everywhere

work = mls.allreduce_async(weights, op="max")  # runs in the background ...
work.wait(timeout_s=30)  # ... until here
