"""LDCQ: the latent of the prior that the critic values most (section 4.2, policy execution)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ldcq.config import ConfigError, SamplingConfig, SupportConfig
from ldcq.critic.critic import Critic
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Array, Candidates, Execution, LatentPlanPolicy
from ldcq.randomness import block_rows
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.world_model import WorldModel


class LdcqPolicy(LatentPlanPolicy):
    """z_max = argmax_z min_j Q_j(s, z) over n latents z ~ p(z | s) (Eq. 7 in latent space).

    Over a Gaussian prior this is BCQ-H (section 5.3). Where latents are valued for k <= H executed
    steps, it chooses k as well: argmax_(z, k) of Q(s, z, k).

    With `lookahead`, candidates are valued by where they lead as well, r_{t:t+k} + gamma^k
    V(s_{t+k}) as the world model says (model-based value expansion, Feinberg et al. 2018, by one
    latent): V is smooth in the state, so it tells neighbouring ends apart that Q(s, z) confuses.

    Args:
        decoder: pi(a | s, z).
        prior: What the critic was trained over.
        critic: Q_1 and Q_2.
        candidates: n.
        sampling: How the prior is sampled.
        execution: How the latent is executed.
        lengths: k < H that the critic values latents for as well, ascending. It chooses among those
            up to `execution.steps`; where all are longer, by the value of the shortest.
        world_model: `support` and `lookahead` need it.
        support: How far from the data candidates may lead, see `StateSupport.allowed`; None: as
            they please.
        lookahead: w of (1 - w) Q(s, z, k) + w (r + gamma^k V); above 0 the world model needs
            `world_model.rewards`, and the critic a V-network.

    Raises:
        ConfigError: n is more than the prior gives in one draw, the critic values latents for
            another number of lengths, or models cannot look ahead together.
    """

    def __init__(
        self,
        decoder: LowLevelPolicy,
        prior: LatentPrior,
        critic: Critic,
        candidates: int,
        sampling: SamplingConfig,
        execution: Execution,
        lengths: Sequence[int] = (),
        world_model: WorldModel | None = None,
        support: SupportConfig | None = None,
        lookahead: float = 0.0,
    ) -> None:
        super().__init__(decoder, execution)
        self.critic = critic
        self.candidates = candidates
        if critic.dimensions.lengths != len(lengths) + 1:
            raise ConfigError(
                f"lengths is {[*lengths]}, expected {critic.dimensions.lengths - 1} numbers of "
                "steps, as the critic was trained with"
            )
        if lookahead and world_model is not None:
            _check_lookahead(world_model, critic)
        valued = np.array((*lengths, decoder.dimensions.horizon))
        self._considered = np.flatnonzero(valued <= max(execution.steps, valued[0]))
        self._lengths = valued[self._considered]
        self._world_model, self._support, self._lookahead = world_model, support, lookahead
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
            split = (torch.split(self.tensor(rows), at_once) for rows in (states, candidates))
            blocks = zip(*split, strict=True)
            best = torch.cat([self._best(*block) for block in blocks]).cpu().numpy()
        rows, lengths = np.divmod(best, len(self._lengths))
        latents = candidates[np.arange(len(states)), rows]
        latents[best < 0] = np.nan
        return latents, self._lengths[lengths]

    def _best(self, states: Tensor, latents: Tensor) -> Tensor:
        """Which of the pairs of a latent (N, n, Z) and a length is the best one, (N,); -1 where no
        value is finite.
        """
        values = self._values(states, latents)[..., self._considered.tolist()].flatten(1)
        finite = values.isfinite()
        best = values.masked_fill(~finite, -torch.inf).argmax(dim=1)
        return best.masked_fill(~finite.any(dim=1), -1)

    def _values(self, states: Tensor, latents: Tensor) -> Tensor:
        """Of latents (N, n, Z) in raw states (N, S), for K numbers of steps each, in units of
        discounted return, (N, n, K); -inf for those that may not be chosen.
        """
        values, model = self.critic.score_by_length(states, latents), self._world_model
        if model is None:
            return values
        repeated = states.unsqueeze(1).expand(-1, latents.shape[1], -1)
        ends = model.ends(repeated, latents)
        if self._lookahead:
            rewards, discounts = model.earnings(repeated, latents)
            following = self.critic.v_values(ends.flatten(0, 2)).view(rewards.shape)
            worth = following / self.critic.config.reward_scale
            values = torch.lerp(values, rewards + discounts * worth, self._lookahead)
        if self._support is not None:
            last = model.state_normaliser(ends[..., -1, :])
            allowed = model.support.allowed(last, self._support.quantile, self._support.kept)
            values = values.masked_fill(~allowed.unsqueeze(2), -torch.inf)
        return values


def _check_lookahead(world_model: WorldModel, critic: Critic) -> None:
    known, valued = world_model.dimensions.lengths, critic.dimensions.lengths
    if world_model.gains is None:
        raise ConfigError(
            "actor.lookahead: the world model was trained without world_model.rewards; train "
            "it again with it, or set actor.lookahead to 0"
        )
    if known != valued:
        raise ConfigError(
            f"lengths: the world model was trained with {known - 1}, the critic with "
            f"{valued - 1}, expected as many; train the world model again"
        )
    if critic.value is None:
        raise ConfigError(
            "actor.lookahead: the critic was trained without V(s); train it again with "
            "critic.dueling, or set actor.lookahead to 0"
        )
