"""Latent Q-learning over candidates from the prior service."""
