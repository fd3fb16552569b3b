"""Measure motions against recordings (does not ship)."""
