"""The model process seen from Blender: wire, client, schedule, runtime, model files (pure)."""
