"""The command line: reads arguments, calls one library function, shows its result."""
