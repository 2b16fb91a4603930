"""The parts of the benchmark of evaluation: each adds its figures."""
