"""The same extension, built for MPICH's handles."""

from mpimlsys._native_openmpi import *
