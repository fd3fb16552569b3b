"""From timed phones to curves of the controls (does not ship)."""
