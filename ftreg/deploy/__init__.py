"""Other forms of a checkpoint's weights, and whether what is served is what was trained."""
