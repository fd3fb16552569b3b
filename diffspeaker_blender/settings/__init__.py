"""What is chosen: per scene, and per machine (bpy)."""
