# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and films of a motion without Blender (does not ship)."""
