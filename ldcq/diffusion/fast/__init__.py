"""The denoiser as it is sampled: equal to the trained one up to rounding, and much faster."""
