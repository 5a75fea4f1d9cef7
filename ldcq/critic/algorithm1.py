"""One update of Algorithm 1: sample, target, temporal-difference step, target networks."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldcq.config import Config
from ldcq.critic.candidates import CandidateSource
from ldcq.critic.critic import Critic
from ldcq.critic.losses import weighted_td_loss
from ldcq.critic.replay import PrioritisedReplay, beta_at
from ldcq.critic.targets import bellman_target
from ldcq.critic.transitions import StoredTransitions, Transitions, normalisers
from ldcq.learning.batches import generator
from ldcq.nn.model import Dimensions


@dataclass(frozen=True)
class ValidationBatch:
    """Windows kept from training, with latents drawn once.

    Attributes:
        transitions: (B, ...).
        latents: z ~ q(z | tau), (B, Z).
        candidates: From the prior at s_{t+H}, (B, n, Z).
    """

    transitions: Transitions
    latents: Tensor
    candidates: Tensor


def make_critic(transitions: Transitions | StoredTransitions, config: Config) -> Critic:
    """A fresh critic, normalised by the training windows; its weights depend on the seed only.

    Args:
        transitions: The windows in the replay; the critic comes to their device.
        config: Seed and critic section.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(config.seed, "critic", "weights").initial_seed())
        states, latents = normalisers(transitions)
        dimensions = Dimensions(state=len(states.mean), latent=len(latents.mean))
        critic = Critic(dimensions, config.critic)
        critic.state_normaliser, critic.latent_normaliser = states, latents
    return critic.to(transitions.device)


@torch.no_grad()
def polyak_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """For every parameter: target <- (1 - rate) target + rate online (Algorithm 1, line 12).

    Args:
        target: Changed in place.
        online: A module of the same parameters.
        rate: 1 - rho, in (0, 1].
    """
    # One call for all of them: they are many and small.
    torch._foreach_lerp_(tuple(target.parameters()), tuple(online.parameters()), rate)


class CriticLearner:
    """Latent Q-learning (section 4.2, Algorithm 1): implements `common.training.Learner`."""

    def __init__(
        self,
        config: Config,
        transitions: Transitions | StoredTransitions,
        replay: PrioritisedReplay,
        source: CandidateSource,
        validation: ValidationBatch | None = None,
    ) -> None:
        """Starts from fresh networks.

        Args:
            config: Seed and critic section.
            transitions: The windows in the replay; the critic is trained on their device.
            replay: Their priorities.
            source: Gives each update its batch and candidates.
            validation: What `validate` measures on, if anything.
        """
        self.critic = make_critic(transitions, config)
        self.target = deepcopy(self.critic).requires_grad_(False)
        self._config = config
        self._transitions = transitions
        self._replay = replay
        self._source = source
        self._validation = validation
        self._device = transitions.device
        self._optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=config.critic.learning_rate, fused=True
        )

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        """One iteration of Algorithm 1 (lines 4 to 12).

        Returns:
            `loss` in units of scaled rewards; mean absolute `td_error`, `q_mean` and `target_mean`
            in units of discounted return; `beta`.
        """
        draw, candidates = self._source.take(step)
        batch = self._transitions.batch(draw.indices)
        targets = self._targets(batch, candidates.to(self._device))
        latents = batch.draw_latents(generator(self._config.seed, "critic", "latents", step))
        values = self.critic.q_values(batch.state, latents)
        weights = torch.from_numpy(draw.weights).to(self._device)
        loss = weighted_td_loss(values, targets, weights)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        polyak_update(self.target, self.critic, self._config.critic.target_update_rate)
        td_errors = (values.detach() - targets).abs().mean(dim=0)
        self._replay.update(draw.indices, td_errors.cpu().numpy())
        self._source.updated(step)
        scale = self._config.critic.reward_scale
        return {
            "loss": loss.detach(),
            "td_error": td_errors.mean() / scale,
            "q_mean": values.detach().mean() / scale,
            "target_mean": targets.mean() / scale,
            "beta": beta_at(self._config.critic.replay, step),
        }

    def validate(self) -> Mapping[str, Tensor | float]:
        """TD error and mean best value on the validation windows, in units of discounted return."""
        if self._validation is None:
            return {}
        held_out = self._validation
        with torch.inference_mode():
            targets = self._targets(held_out.transitions, held_out.candidates)
            values = self.critic.q_values(held_out.transitions.state, held_out.latents)
            best = self.critic.score(held_out.transitions.next_state, held_out.candidates).amax(1)
        scale = self._config.critic.reward_scale
        return {"td_error": (values - targets).abs().mean() / scale, "max_q": best.mean()}

    def state_dict(self) -> dict[str, Any]:
        """Everything: both pairs of networks, optimiser, priorities, batches drawn ahead."""
        return {
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "replay": self._replay.state_dict(),
            "source": self._source.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`, bit for bit."""
        self.critic.load_state_dict(state["critic"])
        self.target.load_state_dict(state["target"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._replay.load_state_dict(state["replay"])
        self._source.load_state_dict(state["source"])

    def _targets(self, batch: Transitions, candidates: Tensor) -> Tensor:
        """The targets y of a batch, in units of scaled rewards, (B,)."""
        with torch.inference_mode():
            best = self.target.best_value(batch.next_state, candidates)
            reward = batch.reward * self._config.critic.reward_scale
            targets = bellman_target(reward, batch.discount, best)
        # A plain tensor again: autograd saves it for the backward pass of the loss.
        return targets.clone()
