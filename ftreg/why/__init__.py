"""Why a checkpoint is worse: the examples, the settings and the training rows behind a drop."""
