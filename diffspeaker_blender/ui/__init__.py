# SPDX-License-Identifier: GPL-3.0-or-later
"""What one sees and clicks: panels, menus, operators, preferences, presets (bpy)."""
