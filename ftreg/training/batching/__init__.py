"""From examples to token ids, and from these to the batches of a step."""
