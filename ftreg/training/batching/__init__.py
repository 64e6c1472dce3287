"""Tokenise examples, and batch them into steps."""
