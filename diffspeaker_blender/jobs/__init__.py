# SPDX-License-Identifier: GPL-3.0-or-later
"""One line from the button to the keys: plan, placing, queue, status, timer (bpy)."""
