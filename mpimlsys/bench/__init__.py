"""Benchmarks that a user can run: ``mpimlsys bench``."""
