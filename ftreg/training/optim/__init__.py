"""Optimizers by name, their parameter groups, schedules and step-size health."""
