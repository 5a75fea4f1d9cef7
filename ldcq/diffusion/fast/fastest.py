"""The fastest way to run the reverse loop on the device where a denoiser is."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast.fused import freeze
from ldcq.diffusion.reverse_loop import ReverseLoop, StepwiseLoop

_LOG = logging.getLogger(__name__)


def fastest_loop(
    denoiser: Denoiser, alpha_bar: NDArray[np.float64], clip: float | None
) -> ReverseLoop:
    """On a GPU one kernel for all steps, or captured graphs, where there can be no such kernel; on
    the CPU the compiled denoiser, step by step.

    Args:
        denoiser: The trained network; its weights are copied.
        alpha_bar: The schedule, (T + 1,).
        clip: Bound of z0_hat, in standardised latents; None: unbounded.

    Raises:
        ValueError: `LDCQ_GPU_PRECISION` is no precision.
    """
    device, steps = denoiser.last.weight.device, len(alpha_bar) - 1
    if device.type == "cuda":
        from ldcq.diffusion.fast.card import CardError, CardLoop, chosen_precision

        try:
            return CardLoop(denoiser, alpha_bar, clip, chosen_precision())
        except CardError as error:
            _LOG.warning("sampling without the fused kernel: %s", error)
    frozen = freeze(denoiser, steps)
    return StepwiseLoop(frozen, alpha_bar, denoiser.last.out_features, device, clip)
