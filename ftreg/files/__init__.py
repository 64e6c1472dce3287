"""Bytes on disk: bounded reads, atomic writes, locks, checks."""
