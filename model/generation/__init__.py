# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to one Motion: session, windows, sampling, fitting to a head."""
