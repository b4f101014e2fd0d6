"""Where prompts pass through: the pipeline, and the ways into it."""
