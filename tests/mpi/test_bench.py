"""The benchmark of all-reduce: what it prints, and what it refuses."""

import json

import pytest


def bench(mpirun, *options, ranks=2):
    return mpirun(ranks, ["-m", "mpimlsys", "bench", "allreduce", *options])


def test_rows_of_every_case(mpirun, tmp_path):
    options = ["--sizes", "1KiB,64KiB", "--algorithms", "auto,ring,mpi", "--json"]
    done = bench(mpirun, *options, "--plot", tmp_path / "plot.png")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ranks"] == 2
    cases = {(row["bytes"], row["algorithm"], row["memory"]) for row in result["rows"]}
    assert cases == {
        (size, name, memory)
        for size in (1024, 65536)
        for name in ("auto", "ring", "mpi")
        for memory in ("context", "user")
        if (name, memory) != ("mpi", "context")
    }
    for row in result["rows"]:
        assert 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"]
        assert row["busbw_bytes_per_s"] == row["bytes"] / row["median_s"]  # 2 (P - 1) / P is 1
        assert row["ratio_to_mpi"] > 0
        assert row["probe_s"] > 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_every_algorithm_can_be_measured(mpirun):
    names = "auto,ring,doubling,halving,shared,hierarchical,mpi"
    done = bench(mpirun, "--sizes", "20KiB", "--algorithms", names, "--memory", "user", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["algorithm"] for row in json.loads(done.stdout)["rows"]] == names.split(",")


def test_auto_is_explained(mpirun):
    done = bench(mpirun, "--explain")
    assert done.returncode == 0, done.stderr
    assert "algorithm = 'auto' on 2 ranks on one node" in done.stdout
    assert "arrays of ctx.empty  shared" in done.stdout
    assert "16 KiB" in done.stdout


@pytest.mark.one_mpi
def test_memory_bandwidth(mpirun):
    done = mpirun(2, ["-m", "mpimlsys", "bench", "stream", "--json"])
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["kernel"] for row in rows] == ["copy", "add", "update"]
    assert all(0 < row["p10_bytes_per_s"] <= row["bytes_per_s"] for row in rows)


@pytest.mark.one_mpi
def test_mistakes(mpirun):
    for options, message in (
        (["--algorithms", "rung"], "no algorithm is called 'rung'. Did you mean 'ring'?"),
        (["--sizes", "3"], "'3' is not a size"),
        (["--sizes", "1KB"], "'1KB' is not a size"),
    ):
        done = bench(mpirun, *options)
        assert done.returncode != 0
        assert message in done.stderr


def test_one_rank_is_told_to_start_more(mpirun):
    done = bench(mpirun, "--sizes", "1KiB", ranks=1)
    assert "an all-reduce needs ranks: mpirun -n 2 mpimlsys bench allreduce" in done.stderr
