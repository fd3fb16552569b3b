"""Train the network: batches, losses, state, validation (does not ship)."""
