"""The objective of the beta-VAE (Eq. 4): pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from ldcq.nn.distributions import Gaussian


def kl_divergence(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """KL(q(z | tau) || p_omega(z | s0)) of diagonal Gaussians over (B, Z), in nats, shape (B,)."""
    ratio = (posterior.std / prior.std).square()
    distance = ((posterior.mean - prior.mean) / prior.std).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(dim=-1)


def reconstruction(log_likelihood: Tensor, horizon: int) -> Tensor:
    """Estimates sum_t log pi(a_t | s_t, z) over all H steps from K of them.

    Args:
        log_likelihood: log pi of K time steps drawn uniformly without replacement, shape (B, K).
        horizon: H.

    Returns:
        H / K times their sum, unbiased; the sum itself where K = H. Shape (B,).
    """
    return log_likelihood.mean(dim=-1) * horizon


def negative_elbo(log_likelihood: Tensor, kl: Tensor, beta: float, horizon: int) -> Tensor:
    """The loss: minus the evidence lower bound of Eq. 4, per time step, averaged over the batch.

    Dividing by H keeps the size of the loss, and so the meaning of a learning rate, the same for
    every horizon; the balance of the two terms is that of Eq. 4.

    Args:
        log_likelihood: log pi(a_t | s_t, z) of K of the window's steps, shape (B, K).
        kl: KL(q || p_omega), shape (B,).
        beta: Weight of the KL term.
        horizon: H.

    Returns:
        A scalar.
    """
    return -(reconstruction(log_likelihood, horizon) - beta * kl).mean() / horizon


def decoded_steps(
    batch: int, horizon: int, count: int | None, generator: torch.Generator
) -> Tensor | None:
    """The time steps of each window that enter the reconstruction term.

    Args:
        batch: B.
        horizon: H.
        count: K steps per window; None for all of them.
        generator: Draws them.

    Returns:
        K different steps per window, each step equally likely, shape (B, K); None for all.
    """
    if count is None or count >= horizon:
        return None
    keys = torch.rand(batch, horizon, generator=generator, device=generator.device)
    return keys.topk(count, dim=1, sorted=False).indices
