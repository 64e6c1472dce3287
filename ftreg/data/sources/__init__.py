"""Rows from elsewhere: files, sets of the hub, exported spans, and their columns."""
