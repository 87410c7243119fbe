"""A small language for conditions on outputs and for joining them, which can compute values and nothing else."""
