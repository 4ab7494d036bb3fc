"""Train your own model class.

mpirun -n 2 python examples/custom_model.py
"""

import numpy as np

import mpimlsys as mls
from mpimlsys import nn


class Spiral(nn.Module):
    """Two layers with a skip connection: which of three spirals does a point belong to?"""

    loss = nn.CrossEntropyLoss()

    def __init__(self):
        self.encode = nn.Sequential(nn.Linear(2, 64), nn.Tanh())
        self.mix = nn.Sequential(nn.Linear(64, 64), nn.Tanh())
        self.decode = nn.Linear(64, 3)

    def forward(self, x, phase):
        h = self.encode.forward(x, phase)
        return self.decode.forward(h + self.mix.forward(h, phase), phase)

    def backward(self, grad, ready):
        grad = self.decode.backward(grad, ready)
        return self.encode.backward(grad + self.mix.backward(grad, ready), ready)


rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 3000)
radius = rng.uniform(0.1, 1, 3000)
angle = 4 * radius + 2 * np.pi / 3 * labels + rng.normal(0, 0.1, 3000)
points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)

trainer = mls.Trainer(Spiral(), optimizer=mls.optim.adam(0.01))
trainer.fit((points[:2500], labels[:2500]), epochs=20, batch_size=100)
result = trainer.evaluate((points[2500:], labels[2500:]))
if trainer.context.is_root:
    print(f"accuracy {result.measure:.1%} after {trainer.steps_done} steps")
