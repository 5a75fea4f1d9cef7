"""The latent diffusion prior (section 4.1, A.2.2): denoiser, schedule, Eq. 5, and the reverse loop
of Algorithm 1, lines 5 to 9.
"""
