"""What can speak: FLAME heads, mapped characters, the demo head, and how each comes in."""
