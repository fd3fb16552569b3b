"""Recordings with captured motion, as training and evaluation read them (does not ship)."""
