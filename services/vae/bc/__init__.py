"""Behaviour cloning without latents: beside the VAE, because it learns from the same data with the
same decoder.
"""
