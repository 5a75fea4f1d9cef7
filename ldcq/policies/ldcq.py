"""LDCQ: the latent of the prior that the critic values most (section 4.2, policy execution)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldcq.config import ConfigError, SamplingConfig, SupportConfig
from ldcq.critic.critic import Critic
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Array, Candidates, Execution, LatentPlanPolicy
from ldcq.randomness import block_rows
from ldcq.support import supported
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.world_model import WorldModel


@dataclass(frozen=True)
class SupportCheck:
    """Leaves the choice to candidates that lead to where the data are; see `supported`.

    Attributes:
        world_model: Says where candidates lead.
        settings: How far from the data they may.
    """

    world_model: WorldModel
    settings: SupportConfig

    def __call__(self, states: Tensor, latents: Tensor) -> Tensor:
        """Which of the latents (N, n, Z) may be chosen in raw states (N, S), (N, n)."""
        repeated = states.unsqueeze(1).expand(-1, latents.shape[1], -1)
        distances = self.world_model.distance(repeated, latents)
        limit = self.world_model.support.limit(self.settings.quantile)
        return supported(distances, limit, self.settings.kept)


@dataclass(frozen=True)
class Lookahead:
    """Values candidates by where they lead: r_{t:t+k} + gamma^k V(s_{t+k}), both as the world model
    says (model-based value expansion, Feinberg et al. 2018, by one latent).

    V is smooth in the state, so it tells neighbouring ends apart that Q(s, z) confuses.

    Attributes:
        world_model: With `world_model.rewards`.
        critic: With a V-network.
        weight: w of (1 - w) Q(s, z) + w (r + gamma^k V).

    Raises:
        ConfigError: The world model was trained without rewards or with other lengths, or the
            critic without V.
    """

    world_model: WorldModel
    critic: Critic
    weight: float

    def __post_init__(self) -> None:
        known, valued = self.world_model.dimensions.lengths, self.critic.dimensions.lengths
        if self.world_model.gains is None:
            raise ConfigError(
                "actor.lookahead: the world model was trained without world_model.rewards; train "
                "it again with it, or set actor.lookahead to 0"
            )
        if known != valued:
            raise ConfigError(
                f"lengths: the world model was trained with {known - 1}, the critic with "
                f"{valued - 1}, expected as many; train the world model again"
            )
        if self.critic.value is None:
            raise ConfigError(
                "actor.lookahead: the critic was trained without V(s); train it again with "
                "critic.dueling, or set actor.lookahead to 0"
            )

    def __call__(self, states: Tensor, latents: Tensor) -> Tensor:
        """Values of latents (N, n, Z) in raw states (N, S), in units of discounted return,
        (N, n, K).
        """
        repeated = states.unsqueeze(1).expand(-1, latents.shape[1], -1)
        outcome = self.world_model.foresee(repeated, latents)
        following = self.critic.v_values(outcome.states.flatten(0, 2)).view(outcome.rewards.shape)
        worth = following / self.critic.config.reward_scale
        ahead = outcome.rewards + outcome.discounts * worth
        return torch.lerp(self.critic.score_by_length(states, latents), ahead, self.weight)


class LdcqPolicy(LatentPlanPolicy):
    """z_max = argmax_z min_j Q_j(s, z) over n latents z ~ p(z | s) (Eq. 7 in latent space).

    Over a Gaussian prior this is BCQ-H (section 5.3). Where latents are valued for k <= H executed
    steps, it chooses k as well: argmax_(z, k) of Q(s, z, k).

    Args:
        decoder: pi(a | s, z).
        prior: What the critic was trained over.
        critic: Q_1 and Q_2.
        candidates: n.
        sampling: How the prior is sampled.
        execution: How the latent is executed.
        support: Which candidates may be chosen; None: all.
        lookahead: Values candidates; None: the critic alone does.
        lengths: k < H that the critic values latents for as well, ascending. It chooses among those
            up to `execution.steps`; where all are longer, by the value of the shortest.

    Raises:
        ConfigError: n is more than the prior gives in one draw, or the critic values latents for
            another number of lengths.
    """

    def __init__(
        self,
        decoder: LowLevelPolicy,
        prior: LatentPrior,
        critic: Critic,
        candidates: int,
        sampling: SamplingConfig,
        execution: Execution,
        support: SupportCheck | None = None,
        lookahead: Lookahead | None = None,
        lengths: Sequence[int] = (),
    ) -> None:
        super().__init__(decoder, execution)
        self.critic = critic
        self.candidates = candidates
        if critic.dimensions.lengths != len(lengths) + 1:
            raise ConfigError(
                f"lengths is {[*lengths]}, expected {critic.dimensions.lengths - 1} numbers of "
                "steps, as the critic was trained with"
            )
        valued = np.array((*lengths, decoder.dimensions.horizon))
        self._considered = np.flatnonzero(valued <= max(execution.steps, valued[0]))
        self._lengths = valued[self._considered]
        self._support = support
        self._values = lookahead or critic.score_by_length
        self._draw = Candidates(prior, candidates, sampling)

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """The best candidate of every state; see `LatentPlanPolicy.choose`."""
        return self.plan(states, goals, seed)[0]

    def plan(self, states: Array, goals: Array | None, seed: int) -> tuple[Array, Array]:
        """The best candidate of every state and number of steps; see `LatentPlanPolicy.plan`."""
        candidates = self._draw(states, goals, seed)
        # In blocks of states: memory does not grow with their number.
        at_once = max(1, block_rows(self._device) // candidates.shape[1])
        with torch.no_grad():
            known, latents = self.tensor(states), self.tensor(candidates)
            blocks = zip(torch.split(known, at_once), torch.split(latents, at_once), strict=True)
            best = torch.cat([self._best(*block) for block in blocks]).cpu().numpy()
        rows, lengths = np.divmod(best, len(self._lengths))
        return candidates[np.arange(len(states)), rows], self._lengths[lengths]

    def _best(self, states: Tensor, latents: Tensor) -> Tensor:
        """Which of the pairs of a latent (N, n, Z) and a length is the best one, (N,)."""
        values = self._values(states, latents)[..., self._considered.tolist()]
        if self._support is not None:
            allowed = self._support(states, latents)
            values = values.masked_fill(~allowed.unsqueeze(2), -torch.inf)
        return values.flatten(1).argmax(dim=1)
