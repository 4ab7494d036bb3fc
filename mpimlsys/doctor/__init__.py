"""``mpimlsys doctor``: look at this machine, judge it, say what to mend.

``probe``, ``mpi`` and ``cuda`` look (effects), ``findings``, ``placement`` and ``gpus`` judge
(pure), ``report`` prints.
"""

from __future__ import annotations

from mpimlsys import config
from mpimlsys.doctor import cuda, mpi, probe, report
from mpimlsys.doctor.facts import Facts, Mpi, Place, Ranks
from mpimlsys.doctor.findings import can_train, judge
from mpimlsys.doctor.watchdog import deadline
from mpimlsys.errors import ConfigError

__all__ = ["run"]

_MPI_S = 90.0
_NO_ANSWER = (
    f"mpimlsys doctor: error: MPI did not start, or not every rank answered, within {_MPI_S:g} s. "
    "Check that all hosts can reach each other and have the same environment; then try two ranks "
    "on one host: mpimlsys launch starts them with the launcher that 'mpimlsys doctor' names."
)


def run(*, json: bool) -> int:
    """Diagnose and print. Collective over the world when started by a launcher.

    Args:
        json: print one JSON object, as :func:`report.as_json` says.

    Returns:
        0 when training can run, else 1; on other ranks than 0 only whether MPI can be loaded.
    """
    facts = _diagnose()
    if facts is None:
        return 0
    findings = judge(facts)
    print(
        report.as_json(facts, findings) if json else report.text(findings, facts.places), flush=True
    )
    if facts.ranks.message_error:
        mpi.abandon()
    return 0 if can_train(findings) else 1


def _diagnose() -> Facts | None:
    """The facts on rank 0, None elsewhere."""
    environment = config.environment()
    rank = environment.rank_hint or 0
    inside = environment.launcher != "none"
    machine = probe.machine()
    found: tuple[Mpi | None, Ranks] = None, Ranks(1, 1, machine.cores, (machine.host,))
    places: tuple[Place, ...] = ()
    error = ""
    try:
        if inside:
            with deadline(_MPI_S, _NO_ANSWER):
                found = mpi.look()
                if rank != 0 or not found[1].message_error:
                    places = mpi.places(probe.place(machine))
        else:
            found = mpi.look_in_child()
    except ConfigError as failure:
        error = str(failure)
    if rank != 0 and inside:
        if error:
            raise ConfigError(error)
        return None
    return Facts(
        probe.software(),
        machine,
        probe.start(),
        found[0],
        error,
        found[1],
        places,
        cuda.look(message=not inside and found[0] is not None),
    )
