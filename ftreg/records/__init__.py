"""Records on disk: examples of datasets, checkpoints, evaluations, baselines, and their paths."""
