"""The fixtures of the VAE's own tests."""

from tests.ldcq.vae.conftest import _one_thread, config, windows

__all__ = ["_one_thread", "config", "windows"]
