"""Latent Q-learning over candidates from the prior service. Imports `common`, no other service."""
