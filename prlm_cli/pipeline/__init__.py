"""What each command does, callable from Python: a file and a function per verb."""
