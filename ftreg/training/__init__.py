"""Fine-tuning: from examples to a checkpoint folder."""
