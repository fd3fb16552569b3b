# SPDX-License-Identifier: GPL-3.0-or-later
"""From a head mesh to named face shapes: topology, landmarks, controls, shapes, head files."""
