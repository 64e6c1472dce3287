"""Save and load the training state, and check whether a configuration may resume it."""
