# SPDX-License-Identifier: GPL-3.0-or-later
"""The sculptor of the demo head."""
