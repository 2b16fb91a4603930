"""The parts of `tests.bench.training`."""
