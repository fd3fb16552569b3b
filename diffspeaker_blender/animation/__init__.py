"""From a Motion to what Blender plays: actions, shape keys, storage, diagnosis (bpy)."""
