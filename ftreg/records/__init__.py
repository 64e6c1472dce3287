"""What is on disk: datasets' examples, checkpoints, evaluations, baselines, and where they lie."""
