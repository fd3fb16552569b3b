"""One line from the button to the keys: plan, placing, queue, status, timer (bpy)."""
