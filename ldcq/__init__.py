"""Offline reinforcement learning with latent diffusion: the method, as a library."""
