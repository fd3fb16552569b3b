# SPDX-License-Identifier: GPL-3.0-or-later
"""Recordings with captured motion, as training and evaluation read them (does not ship)."""
