"""The critic's loss: pure functions."""

from __future__ import annotations

from torch import Tensor


def weighted_td_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared TD error of both critics, weighted per sample (Eq. 8; Schaul et al. 2015, 3.4).

    Args:
        values: Q_1 and Q_2 of the batch, (2, B).
        targets: y, (B,), without gradient.
        weights: Importance weights, (B,).

    Returns:
        Mean over the batch of w_i sum_j (Q_j - y)_i^2, a scalar.

    Raises:
        ValueError: Shapes that would broadcast: a (B, 1) among (B,) makes a (B, B) product whose
            mean cancels the weights.
    """
    batch = values.shape[-1:]
    if values.ndim != 2 or targets.shape != batch or weights.shape != batch:
        raise ValueError(
            f"values, targets and weights have shapes {tuple(values.shape)}, "
            f"{tuple(targets.shape)} and {tuple(weights.shape)}, expected (2, B), (B,) and (B,)"
        )
    return (weights * (values - targets).square().sum(dim=0)).mean()
