# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign checkpoints into ours, running nothing in them."""
