"""The beta-VAE over windows (section 4.1, Eq. 4): encoder, conditional prior, and the decoder
pi(a | s, z), which is the low-level policy.
"""
