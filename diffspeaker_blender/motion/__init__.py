"""A Motion and what is done to it before it becomes keys: adjust, thin, keys (pure numpy)."""
