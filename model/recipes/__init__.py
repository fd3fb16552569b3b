"""How `weights/` was made (does not ship)."""
