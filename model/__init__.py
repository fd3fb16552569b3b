"""DiffSpeaker, the model process: speech in, face motion out. Never imports bpy."""

__version__ = "1.0.0"
