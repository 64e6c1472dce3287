"""The command line: each command reads arguments, calls one library function, shows its result."""
