"""The fixtures of the VAE's own tests."""

from tests.ldcq.vae.conftest import config, windows

__all__ = ["config", "windows"]
