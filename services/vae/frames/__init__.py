"""Compression of images: the beta-VAE of single frames. Imports `common`, no service.

It is beside the VAE because what it writes is what the VAE learns from.
"""
