"""Find base models and load them safely."""
