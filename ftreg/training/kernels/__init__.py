"""What replaces parts of transformers and peft on CPUs, each with the same values and less work."""
