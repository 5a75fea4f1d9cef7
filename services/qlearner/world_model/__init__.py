"""The world model's stage: where a latent leads. Imports `common`, no service."""
