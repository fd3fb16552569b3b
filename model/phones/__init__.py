# SPDX-License-Identifier: GPL-3.0-or-later
"""From timed phones to curves of the controls (does not ship)."""
