"""Compression of images by the beta-VAE of single frames: beside the VAE, because what it writes is
what the VAE learns from.
"""
