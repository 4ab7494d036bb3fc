"""Shared by the tests over real ranks."""

import pytest


@pytest.fixture
def train_job(write_job, mpirun, tmp_path):
    """``train_job(text)`` is ``run(out, *keys, ranks=3, resume=False)`` of a job file.

    It returns the finished launcher and the folder of the run.
    """

    def of(text):
        path = write_job(text)

        def run(out, *keys, ranks=3, resume=False):
            argv = ["-m", "mpimlsys", "train", path, "--set", f"job.out={tmp_path / out}"]
            for key in keys:
                argv += ["--set", key]
            done = mpirun(ranks, [*argv, *(["--resume"] if resume else [])])
            return done, tmp_path / out

        return run

    return of
