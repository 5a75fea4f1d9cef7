"""Where the data are: distances to their states, and choices that lead there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEIGHBOURS = 10
"""k: the distance of a state to the data is that to the k-th nearest of theirs."""
_ENTRIES = 1 << 20
"""Distances computed at once."""


def nearest(points: Tensor, known: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest of some known points.

    Args:
        points: Shape (N, D).
        known: Shape (R, D).
        count: k, at most R.

    Returns:
        Euclidean distances, ascending, and rows of `known`, (N, k) each.
    """
    found = [
        torch.cdist(block, known).topk(count, largest=False) for block in _blocks(points, known)
    ]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


class StateSupport(nn.Module):
    """States of the data, and how far from them the data's other states are; in buffers: it is
    saved with the model.

    Args:
        known: Standardised states of the data, (R, S).
        own_distances: `distance` of other states of the data, (R,).
    """

    known: Tensor
    own_distances: Tensor

    def __init__(self, known: Tensor, own_distances: Tensor) -> None:
        super().__init__()
        self.register_buffer("known", known.detach().clone().float())
        self.register_buffer("own_distances", own_distances.detach().clone().float())

    @classmethod
    def unknown(cls, count: int, size: int) -> StateSupport:
        """One of R = `count` states that is to be overwritten by `load_state_dict`."""
        return cls(torch.zeros(count, size), torch.zeros(count))

    @classmethod
    def of(cls, known: Tensor, others: Tensor) -> StateSupport:
        """That of standardised states of the data, and others of theirs, (R, S) each."""
        support = cls(known, torch.zeros(len(others)))
        support.own_distances = support.distance(others)
        return support

    def distance(self, states: Tensor) -> Tensor:
        """Distance to the k-th nearest state of the data, in standard deviations of the states.

        Args:
            states: Standardised, shape (..., S).

        Returns:
            Shape (...).
        """
        count = min(NEIGHBOURS, len(self.known))
        distances, _ = nearest(states.flatten(0, -2), self.known, count)
        return distances[:, -1].view(states.shape[:-1])

    def limit(self, quantile: float) -> Tensor:
        """The distance that this share of the data's own states keeps to, a scalar."""
        return self.own_distances.quantile(quantile)

    def allowed(self, ends: Tensor, quantile: float, kept: float) -> Tensor:
        """Which candidates may be chosen: those that lead to the data, or at least towards them.

        Where most lead off the data, the closest ones may: of these the best leads back.

        Args:
            ends: Standardised, where each candidate of every state leads, (N, n, S).
            quantile: Share of the data's own states that says how far from the data is too far.
            kept: Share of a state's candidates, the closest ones, that may be in any case.

        Returns:
            Shape (N, n), bool; false where an end is infinite or NaN.
        """
        limit = self.limit(quantile)
        near = self._near(ends, limit)
        # The quantile of `supported` lies between two distances. Where both are within the limit,
        # and that is nearly everywhere, which distance it is makes no difference.
        unclear = near.sum(dim=1) < int(kept * (ends.shape[1] - 1)) + 2
        if unclear.any():
            near[unclear] = supported(self.distance(ends[unclear]), limit, kept)
        return near

    def _near(self, states: Tensor, limit: Tensor) -> Tensor:
        """`distance` <= limit, without sorting; arguments and shape as of `distance`."""
        count = min(NEIGHBOURS, len(self.known))
        found = [
            (torch.cdist(block, self.known) <= limit).sum(dim=1) >= count
            for block in _blocks(states.flatten(0, -2), self.known)
        ]
        return torch.cat(found).view(states.shape[:-1])


def supported(distances: Tensor, limit: Tensor, kept: float) -> Tensor:
    """What `StateSupport.allowed` finds, by the distances themselves.

    Args:
        distances: From the data, of where each candidate of every state leads, (N, n).
        limit: Distance up to which a candidate may be chosen, a scalar.
        kept: Share of a state's candidates, the closest ones, that may be in any case.

    Returns:
        Shape (N, n), bool; false where a distance is infinite or NaN.
    """
    # A quantile is NaN where one entry is, and would leave no candidate to choose.
    finite = distances.nan_to_num(nan=torch.finfo(distances.dtype).max)
    closest = finite.quantile(kept, dim=1, keepdim=True)
    return distances <= closest.maximum(limit)


def _blocks(points: Tensor, known: Tensor) -> tuple[Tensor, ...]:
    """Points of which all distances to the known ones fit into the cache."""
    return torch.split(points, max(_ENTRIES // len(known), 1))
