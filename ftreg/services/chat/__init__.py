"""Chat endpoints with OpenAI's API: for judges, and for served checkpoints."""
