#!/bin/sh
# Open MPI's daemon on another node of an allocation, deaf to SIGUSR1. Slurm signals it together with
# the ranks (scancel --signal=USR1, #SBATCH --signal=USR1@60); they stop with a checkpoint, while the
# daemon by itself would end, and the job with it.
trap '' USR1
exec "$@"
