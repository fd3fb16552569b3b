"""The published network: spec, attention, denoiser, latent form, diffusion, encoders."""
