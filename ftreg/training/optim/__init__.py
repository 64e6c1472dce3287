"""Optimizers by name, their parameter groups, schedules, and checks on the step size."""
