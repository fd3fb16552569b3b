"""Pictures and films of a motion without Blender (does not ship)."""
