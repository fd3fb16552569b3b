"""Many lines without a window: command line, manifests, report (bpy)."""
