"""Latent Q-learning (section 4.2): the critics, Eq. 8, the replay and Algorithm 1."""
