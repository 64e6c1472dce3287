"""Shared by several commands: options, progress, completion, and exit handling."""
