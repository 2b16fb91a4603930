"""What `prlm eval` can measure: a file a kind, which does it and prints the result. `eval` says which is meant."""
