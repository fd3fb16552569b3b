# SPDX-License-Identifier: GPL-3.0-or-later
"""A line in a file that others read: stand-ins, writing, a second look, tables (bpy)."""
