"""`python -m prlm_cli`."""

from prlm_cli.cli import main

main()
