# SPDX-License-Identifier: GPL-3.0-or-later
"""From a strip, a file or a speaker to an AudioClip: exactly what is heard (bpy)."""
