"""What ftreg does when everything around it fails; `python -m tests.torture --help`."""
