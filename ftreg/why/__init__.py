"""Why a checkpoint is worse: the settings, the training rows and the examples behind a drop."""
