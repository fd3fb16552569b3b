# SPDX-License-Identifier: GPL-3.0-or-later
"""Many lines without a window: command line, manifests, report (bpy)."""
