# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure motions against recordings (does not ship)."""
