"""What every rank did when, in one file that ui.perfetto.dev opens (docs/timeline.md).

==========  ========================================================================
module      what it does
==========  ========================================================================
``clocks``  how far the clocks of the ranks are apart (pure)
``lines``   events as lines of the Trace Event format (pure)
``record``  notes events while a part of a program runs, writes the file; collective
==========  ========================================================================
"""

from mpimlsys.timeline.record import trace

__all__ = ["trace"]
