"""What can be seen of a critic: before any rollout, and against rollouts (docs/diagnosis.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.critic.critic import Critic
from ldcq.critic.transitions import Transitions
from ldcq.learning.batches import evenly_spread
from ldcq.nn.normaliser import Normaliser
from ldcq.support import nearest

Array = NDArray[Any]

STATE_WEIGHT = 2.0
"""Of a standardised state beside a standardised latent: neighbours are of a similar state first."""
KEPT_WINDOWS = 30_000
"""Windows that are searched, evenly from all: neighbours in time are nearly equal."""
OUTSIDE = 0.95
"""Quantile of the distances of the data's own latents beyond which a latent is off the support."""
STILL = 0.1
"""Of the data's median displacement: an agent that moves less over as many steps stands still."""
LEAST_POLICIES = 6
"""Policies from which a rank correlation is looked at."""
PERMUTATIONS = 4000
_SMALLEST = 1e-6


class Support:
    """The data's state-latent pairs, and how far from them the data's own latents lie.

    The distance of a pair is that to the nearest pair of the data, over state and latent together,
    each in the data's standard deviations and the state counted `STATE_WEIGHT` times.

    Args:
        states: Raw states of the data, (M, S).
        latents: Their raw latents, (M, Z).
        own_states: Raw states of windows that are not among these, (K, S).
        own_latents: Their latents z ~ q(z | tau), (K, Z).
        quantile: Of the distances of the own latents that is the limit.
    """

    def __init__(
        self,
        states: Tensor,
        latents: Tensor,
        own_states: Tensor,
        own_latents: Tensor,
        quantile: float = OUTSIDE,
    ) -> None:
        state_scale, latent_scale = (
            Normaliser.of(known.mean(dim=0), known.std(dim=0, correction=0)).std
            for known in (states, latents)
        )
        self._scale = state_scale / STATE_WEIGHT, latent_scale
        self._known = self._features(states, latents)
        distances, _ = self.nearest(own_states, own_latents.unsqueeze(1))
        self._limit = distances.quantile(quantile)

    @classmethod
    def of(cls, windows: Transitions, own_states: Tensor, own_latents: Tensor) -> Support:
        """The support of windows with the means of q(z | tau) as their latents; see the class."""
        kept = windows.batch(evenly_spread(np.arange(len(windows)), KEPT_WINDOWS))
        return cls(kept.state, kept.latent_mean, own_states, own_latents)

    def nearest(self, states: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Distance to the nearest pair of the data and its row, both (N, n), for raw states (N, S)
        and latents (N, n, Z).
        """
        count = latents.shape[1]
        points = self._features(states.repeat_interleave(count, dim=0), latents.flatten(0, 1))
        distances, rows = nearest(points, self._known, 1)
        return distances.view(-1, count), rows.view(-1, count)

    def outside(self, states: Tensor, latents: Tensor) -> Tensor:
        """Whether latents are off the support, (N, n), bool; takes what `nearest` takes."""
        return self.nearest(states, latents)[0] > self._limit

    def _features(self, states: Tensor, latents: Tensor) -> Tensor:
        return torch.cat([states / self._scale[0], latents / self._scale[1]], dim=1).float()


def candidate_metrics(
    critic: Critic, states: Tensor, candidates: Tensor, support: Support
) -> dict[str, Tensor]:
    """What a critic makes of the candidates of some states; values in units of discounted return.

    Args:
        critic: Scores them.
        states: Raw states, (N, S).
        candidates: Raw latents that the prior drew there, (N, n, Z).
        support: The data's.

    Returns:
        Scalars: `max_q`, the mean over states of the best candidate's value; `spread`, of the
        standard deviation over candidates; `max_gain`, of the maximum less the mean; `agreement`
        (see there), where the critic has several networks; `off_support`, the share of best
        candidates that are off the support; `off_support_unranked`, that of first candidates.
    """
    scores = critic.score(states, candidates)
    best = scores.argmax(dim=1).view(-1, 1, 1)
    chosen = candidates.take_along_dim(best, dim=1)
    values = critic.q_values(states, candidates)
    return {
        "max_q": scores.amax(dim=1).mean(),
        "spread": scores.std(dim=1, correction=0).mean(),
        "max_gain": (scores.amax(dim=1) - scores.mean(dim=1)).mean(),
        **({"agreement": agreement(values)} if len(values) > 1 else {}),
        "off_support": support.outside(states, chosen).float().mean(),
        "off_support_unranked": support.outside(states, candidates[:, :1]).float().mean(),
    }


def agreement(values: Tensor) -> Tensor:
    """Correlation of the networks of a critic within candidate sets, the mean over pairs of them.

    Their errors cannot be seen without the true values. What the argmax sees of a network are its
    deviations from the mean over one state's candidates: these are correlated, pooled over states.
    At 1 a further network is no second opinion. NaN where one values all candidates alike.

    Args:
        values: Q_j of every candidate, (J, N, n), J at least 2.
    """
    deviations = (values - values.mean(dim=2, keepdim=True)).flatten(1)
    first, second = torch.triu_indices(len(values), len(values), offset=1)
    return torch.corrcoef(deviations)[first, second].mean()


def calibration(
    values: Array, steps: Array, rewards: Array, discount: float, ended: bool
) -> tuple[Array, Array]:
    """What the values of chosen latents promise of one episode's rewards, and what it earned.

    Where a time limit cut the episode, rewards after it are unknown. Both sides then stop at the
    last choice, at step u: promised are Q_t - gamma^(u - t) Q_u, earned r_t + ... +
    gamma^(u - t - 1) r_{u-1}. So no value stands for rewards that nobody saw.

    Args:
        values: Q of each chosen latent, (K,).
        steps: When it was chosen, ascending, (K,).
        rewards: Of the episode, (T,).
        discount: gamma, per step.
        ended: Whether the environment ended the episode: nothing is to come after it.

    Returns:
        Promised and earned by choice, (K,), or (K - 1,) where a time limit cut the episode.
    """
    returns = np.zeros(len(rewards) + 1)
    for step in reversed(range(len(rewards))):
        returns[step] = rewards[step] + discount * returns[step + 1]
    if ended:
        return values, returns[steps]
    left = discount ** (steps[-1] - steps[:-1])
    return values[:-1] - left * values[-1], returns[steps[:-1]] - left * returns[steps[-1]]


def displacements(states: Array, episode: Array, steps: int) -> Array:
    """How far states move in some steps: distances between rows that many apart in one episode.

    Args:
        states: Standardised, one after the other, (M, S).
        episode: Which episode each belongs to, (M,).
        steps: At least 1.
    """
    moved = np.linalg.norm(states[steps:] - states[:-steps], axis=1)
    return np.asarray(moved[episode[steps:] == episode[:-steps]])


class Prediction(TypedDict):
    """How an offline number goes with a score over several policies."""

    spearman: float
    p: float  # chance of one as strong among all numbers looked at, if none had to do with it


def predictions(
    measures: Mapping[str, Array], score: Array, groups: Array
) -> dict[str, Prediction]:
    """Rank correlation of every measure with a score within groups of policies, strongest first.

    Only policies of one group are compared: those over one critic say how to act with it, those
    that act alike say which critic to take. The best of many measures goes with any few scores. So
    p is that of the strongest correlation among all measures, under scores that are permuted within
    groups (Westfall and Young, 1993).

    Args:
        measures: By name, one number per policy, (P,) each; those with NaN are left out.
        score: Of each policy, (P,).
        groups: Which group each policy belongs to, (P,).
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    known = {name: values for name, values in measures.items() if np.isfinite(values).all()}
    if not known:
        return {}
    features = np.stack([_ranked(values, members) for values in known.values()])
    target, random = _ranked(score, members), np.random.default_rng(0)
    permuted = np.tile(target, (PERMUTATIONS, 1))
    for rows in members:
        permuted[:, rows] = random.permuted(permuted[:, rows], axis=1)
    chance = np.abs(permuted @ features.T).max(axis=1)
    found = {
        name: Prediction(spearman=float(rho), p=float(np.mean(chance >= abs(rho) - 1e-9)))
        for name, rho in zip(known, features @ target, strict=True)
    }
    return dict(sorted(found.items(), key=lambda item: -abs(item[1]["spearman"])))


def ranks(values: Array) -> Array:
    """Ranks from 0 by size, the mean of them where values are equal, (P,)."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[place])


def _ranked(values: Array, members: list[Array]) -> Array:
    """Ranks within groups of rows, with mean 0 in each and length 1 in all; zeros for ties only."""
    found = np.zeros(len(values))
    for rows in members:
        found[rows] = ranks(values[rows]) - (len(rows) - 1) / 2
    return np.asarray(found / max(float(np.linalg.norm(found)), _SMALLEST))
