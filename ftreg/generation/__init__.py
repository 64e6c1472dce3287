"""Outputs of a checkpoint for a list of prompts."""
