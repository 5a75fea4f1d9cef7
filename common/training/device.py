"""Where tensors are computed, and so that the same program computes the same numbers."""

from __future__ import annotations

import logging

import torch

from ldcq.config import Config

_LOGGER = logging.getLogger(__name__)


class DeviceError(RuntimeError):
    """The device that was asked for is not there."""


def resolve_device(config: Config) -> torch.device:
    """The device that `config.device` means on this machine: `auto` is CUDA where there is one.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise DeviceError("device: got 'cuda', but torch sees no CUDA device; expected cpu or auto")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def configure_torch(config: Config) -> torch.device:
    """Prepares this process for a stage: threads, determinism, the global random state.

    On a CPU the same configuration then gives the same weights, bit for bit. On a GPU it does not:
    several kernels there have no deterministic form.

    Returns:
        The device to compute on. Raises like `resolve_device`.
    """
    device = resolve_device(config)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if device.type == "cpu":
        # As use_deterministic_algorithms(True), which would import the compiler too, in seconds.
        torch.set_deterministic_debug_mode("error")
        # Filling every torch.empty costs time and guards only against reading it uninitialised.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _LOGGER.info("computing on %s with %d thread(s)", device, config.threads)
    return device
