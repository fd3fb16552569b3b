# SPDX-License-Identifier: GPL-3.0-or-later
"""The speech corpus and the teacher that the bundled model learns from."""
