"""1-bit Adam on one rank, with what an exchange of signs would bring."""

import numpy as np

from mpimlsys import optim


def test_what_never_had_a_gradient_stays_where_it_is():
    adam = optim.onebit_adam(0.1, freeze_steps=2)
    parameters = np.ones(4, np.float32)
    adam.bind(parameters, [])
    for _ in range(2):
        adam.step(parameters, np.array([1, -1, 0, 0], np.float32), 0.1)
    for _ in range(3):
        adam.step(parameters, np.array([0.5, -0.5, 0.5, -0.5], np.float32), 0.1)
    assert np.all(parameters[2:] == 1)
    assert np.all(np.abs(parameters[:2] - 1) > 0.1)
