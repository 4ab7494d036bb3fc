"""Training: the step, the run and what it leaves on disk."""
