"""Suites: published benchmarks from their own files, for `prlm eval --suite`. `run` does all; a file a part."""
