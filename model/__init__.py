"""DiffSpeaker, the model process: speech in, face motion out. Never imports bpy."""
