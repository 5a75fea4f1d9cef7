"""Behaviour cloning without latents. Imports `common`, no service.

It is beside the VAE because it learns from the same data with the same decoder.
"""
