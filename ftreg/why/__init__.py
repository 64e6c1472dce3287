"""Why a checkpoint is worse than another: which part of the recipe, which rows."""
