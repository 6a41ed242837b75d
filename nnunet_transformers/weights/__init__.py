"""Foreign checkpoints into our networks, with proof that every tensor found its place."""
