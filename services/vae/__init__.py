"""The beta-VAE service: trains the VAE, writes the latents, serves Encode and Decode."""
