# SPDX-License-Identifier: GPL-3.0-or-later
"""Read foreign files without trust, write our own safely; the same modules stand in both packages.

Neither package imports the other, so each has its copy; `tests/files/test_copies.py` holds them
equal. Everything here needs the standard library and numpy alone, and raises built-in exceptions
that the rooms above put into their own words.
"""
