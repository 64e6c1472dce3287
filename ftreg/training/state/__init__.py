"""The training state: saved, read back, and held against a configuration that would resume it."""
