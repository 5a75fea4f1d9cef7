"""The world model's stage: where a latent leads."""
