"""Who is late, and where: the report of an operation that waits too long.

Every rank has a daemon thread, :class:`Sentinel`, which looks once a second at what its rank waits
in. When that lasts longer than ``comm.stall_warning_s``, one of the waiting ranks asks all others
over TCP, which does not depend on MPI, and prints one report.

``messages``  questions and answers, and the checks of what comes over the network
``machine``   how ranks find each other; what a machine knows of a process that does not answer
``channel``   the questions and answers as bytes
``verdict``   which rank speaks, and in which state each rank is; pure
``report``    the text; pure
``sentinel``  the thread
"""

from mpimlsys.hangs.sentinel import Sentinel

__all__ = ["Sentinel"]
