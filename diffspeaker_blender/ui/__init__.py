"""What one sees and clicks: panels, menus, operators, preferences, presets (bpy)."""
