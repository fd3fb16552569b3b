# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs the network: ONNX Runtime, which travels with the extension, or torch."""
