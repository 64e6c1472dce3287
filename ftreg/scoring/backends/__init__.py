"""What scorers think with. Only these modules may import a model library."""
