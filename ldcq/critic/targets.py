"""What s_{t+k} is worth in a target of the temporal-difference update: every rule in one place.

A target is y_k = r_{t:t+k} + gamma^k V(s_{t+k}) (`bootstrapped`), with k = H in the paper. The
rules differ in V:

- `max_min` (Eq. 8, Algorithm 1 line 10): V(s) = max_z min_j Q_j(s, z), z of the prior
- `argmax_min`: V(s) = min_j Q_j(s, argmax_z Q_1(s, z)); chosen by one network, valued by all, as
  double Q-learning does (van Hasselt et al. 2016)
- `mean`: V(s) = mean_z min_j Q_j(s, z), the behaviour's value: acting by it is one step of
  improvement (Brandfonbrener et al. 2021)
- `expectile_prior`: V is a network, the tau-expectile over z of the prior of min_j Q_j(s, z) (IDQL,
  Hansen-Estruch et al. 2023; DIAR, Park et al. 2024)
- `expectile_data`: the same over the data's own latents, z ~ q(z | tau) (IQL, Kostrikov et al.
  2022)
- `expectile_return`: V is the tau-expectile of the targets y themselves (the value half of HIQL,
  Park et al. 2023): cheapest, and most accurate where s_{t+k} follows from s_t and the actions;
  where chance decides as well, it takes luck for merit

With any rule, a lower bound over J networks may stand for min_j (`together`), y may be clipped to
what the task can return (`critic.bounds`), and Q may be the mean of a distribution over bins that
is learned by classification (`hl_gauss`).
"""

from __future__ import annotations

import torch
from torch import Tensor

GAUSS_WIDTH = 0.75
"""Standard deviation of `hl_gauss`, in bins (Farebrother et al. 2024, section 4.1)."""


def together(values: Tensor, deviations: float | None) -> Tensor:
    """What J networks say together.

    Args:
        values: Q_1, ..., Q_J, (J, ...).
        deviations: beta of mean_j Q_j - beta std_j Q_j, a lower bound over an ensemble (An et al.
            2021); None: min_j Q_j, clipped double Q-learning (Fujimoto et al. 2018).

    Returns:
        Shape (...).
    """
    if deviations is None:
        return values.amin(dim=0)
    return values.mean(dim=0) - deviations * values.std(dim=0)


def argmax_min(values: Tensor, deviations: float | None) -> Tensor:
    """min_j Q_j(s, argmax_z Q_1(s, z)).

    Args:
        values: Of every candidate, (J, B, n).
        deviations: See `together`.

    Returns:
        Shape (B,).
    """
    chosen = values[0].argmax(dim=1)
    return together(values.take_along_dim(chosen[None, :, None], dim=2).squeeze(2), deviations)


def expectile_loss(differences: Tensor, expectile: float, weights: Tensor) -> Tensor:
    """|tau - 1(u < 0)| u^2, whose minimum over V of u = x - V is the tau-expectile of x.

    Args:
        differences: u, (B, m).
        expectile: tau; 0.5 is half the squared error.
        weights: Of the rows, (B,).

    Returns:
        The mean, a scalar.
    """
    sides = (expectile - (differences.detach() < 0).float()).abs()
    return (weights.unsqueeze(1) * sides * differences.square()).mean()


def bootstrapped(reward: Tensor, discount: Tensor, following: Tensor) -> Tensor:
    """y_k = r_{t:t+k} + gamma^k V(s_{t+k}).

    Args:
        reward: r_{t:t+k}, discounted sums, scaled as the critics learn them, (B, K).
        discount: gamma^k, or 0 where the episode ended within the k steps, (B, K).
        following: V(s_{t+k}), in units of scaled rewards, (B, K).

    Returns:
        y, in units of scaled rewards, (B, K).
    """
    return reward + discount * following


def hl_gauss(values: Tensor, edges: Tensor) -> Tensor:
    """A Gaussian around each value as shares of bins: the histogram that classification aims at.

    Its share of a bin is Phi((e_{i+1} - y) / sigma) - Phi((e_i - y) / sigma), over the same of all
    bins together.

    Args:
        values: y, shape (...).
        edges: e_0 < ... < e_m, evenly spaced, (m + 1,).

    Returns:
        Shape (..., m).
    """
    sigma = GAUSS_WIDTH * (edges[1] - edges[0])
    below = torch.special.ndtr((edges - values.unsqueeze(-1)) / sigma)
    shares: Tensor = below.diff(dim=-1) / (below[..., -1:] - below[..., :1])
    return shares
