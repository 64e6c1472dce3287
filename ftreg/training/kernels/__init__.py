"""Replacements for parts of transformers and peft on CPUs: the same values with less work."""
