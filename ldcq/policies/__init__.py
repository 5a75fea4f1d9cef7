"""From a state to a latent to actions: LDCQ, LDGC, LDCP and behaviour cloning (section 4.2)."""
