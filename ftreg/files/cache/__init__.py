"""The cache: its location, its contents, and the integrity of its files."""
