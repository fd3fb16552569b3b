"""The sculptor of the demo head."""
