"""Rows from elsewhere: files, sets of the hub, exported spans; and what becomes of their columns."""
