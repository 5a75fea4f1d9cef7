"""The latent prior p(z | s): its trainer and its server."""
