"""Where a base model comes from, and loading it safely."""
