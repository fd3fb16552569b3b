"""From a strip, a file or a speaker to an AudioClip: exactly what is heard (bpy)."""
