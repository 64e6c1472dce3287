"""Rows from other sources: files, hub datasets, exported spans, and their columns."""
