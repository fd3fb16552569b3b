# SPDX-License-Identifier: GPL-3.0-or-later
"""A Motion and what is done to it before it becomes keys: adjust, thin, keys (pure numpy)."""
