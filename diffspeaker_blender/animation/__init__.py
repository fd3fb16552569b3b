# SPDX-License-Identifier: GPL-3.0-or-later
"""From a Motion to what Blender plays: actions, shape keys, storage, diagnosis (bpy)."""
