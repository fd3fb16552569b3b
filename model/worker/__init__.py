# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that Blender talks to: serve, describe, and the generate command."""
