# SPDX-License-Identifier: GPL-3.0-or-later
"""The model process seen from Blender: wire, client, schedule, runtime, model files (pure)."""
