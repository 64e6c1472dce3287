"""Probes: scorers that ask the model itself, beside the rows of a dataset."""
