# SPDX-License-Identifier: GPL-3.0-or-later
"""How `weights/` was made (does not ship)."""
