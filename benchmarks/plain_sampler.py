"""Algorithm 1's lines 5-9 as the paper reads, with the network of A.2.2: everything is recomputed
for every row and step, over all rows at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldcq.diffusion.prior import DiffusionPrior
from ldcq.diffusion.solvers import SOLVERS


@torch.inference_mode()
def plain_sample(
    prior: DiffusionPrior,
    states: Tensor,
    candidates: int,
    *,
    guidance: float,
    generator: torch.Generator,
    stop_after: int | None = None,
) -> Tensor:
    """DDPM with all T steps.

    Args:
        prior: The model.
        states: Raw states, (N, S).
        candidates: n.
        guidance: w; the null half is left out at w = 1, where it has no weight.
        generator: Of the noise.
        stop_after: Only the first so many steps; None: all.

    Returns:
        Raw latents, (N n, Z).
    """
    denoiser = prior.denoiser
    state = prior.state_normaliser(states).repeat_interleave(candidates, dim=0)
    rows, width = len(state), len(prior.latent_normaliser.mean)
    device = states.device
    nothing = torch.zeros(rows, device=device)
    latent = torch.randn(rows, width, generator=generator, device=device)
    for step in SOLVERS["ddpm"](prior.alpha_bar, prior.options.steps)[:stop_after]:
        time = torch.full((rows,), step.time, device=device)
        clean = denoiser(latent, state, time)
        if guidance != 1:
            null = denoiser(latent, state, time, nothing)
            clean = null + guidance * (clean - null)
        latent = step.latent * latent + step.clean * clean
        if step.noise:
            latent = latent + step.noise * torch.randn(
                rows, width, generator=generator, device=device
            )
    return prior.latent_normaliser.inverse(latent)
