"""The process that Blender talks to: serve, describe, and the generate command."""
