"""Foreign checkpoints into ours, running nothing in them."""
