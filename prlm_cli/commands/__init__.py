"""One file per subcommand: flags in, one call of the pipeline, print."""
