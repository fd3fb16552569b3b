# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the network: batches, losses, state, validation (does not ship)."""
