# SPDX-License-Identifier: GPL-3.0-or-later
"""What can speak: FLAME heads, mapped characters, the demo head, and how each comes in."""
