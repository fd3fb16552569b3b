# SPDX-License-Identifier: GPL-3.0-or-later
"""The published network: spec, attention, denoiser, latent form, diffusion, encoders."""
