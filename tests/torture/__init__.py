"""Tests of ftreg under faults of its environment; `python -m tests.torture --help`."""
