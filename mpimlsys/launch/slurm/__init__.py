"""Jobs in a Slurm queue: write the script, submit it, follow it.

==========  ====================================================================
module      what it does
==========  ====================================================================
``script``  the sbatch script of a job (pure)
``queue``   sbatch, squeue, scontrol and scancel
``follow``  ``mpimlsys submit``, ``status``, ``logs`` and ``cancel``
==========  ====================================================================
"""
