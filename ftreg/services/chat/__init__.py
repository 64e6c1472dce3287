"""Chat endpoints as OpenAI's API defined them: what judges, and what serves a checkpoint."""
