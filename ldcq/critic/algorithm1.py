"""Algorithm 1: Latent Diffusion-Constrained Q-Learning (section 4.2)."""

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
from ldcq.critic.diagnostics import Support, candidate_metrics
from ldcq.critic.replay import PrioritisedReplay, beta_at
from ldcq.critic.targets import max_min_target
from ldcq.critic.transitions import Transitions, normalisers
from ldcq.learning.batches import generator
from ldcq.nn.model import Dimensions


class LDCQ:
    """Learns Q(s, z) over latents that the prior supports; numbers in the margin are the paper's.

    With candidates of a Gaussian prior instead of the diffusion prior's this is BCQ-H.

    Attributes:
        critic: Q_1 and Q_2.
        target: Their slow copies, which the targets are taken from.
        iterations: M.
    """

    def __init__(
        self,
        config: Config,
        transitions: Transitions,
        replay: PrioritisedReplay,
        source: CandidateSource,
        validation: ValidationBatch | None = None,
    ) -> None:
        """Starts from fresh networks.

        Args:
            config: Seed and critic section.
            transitions: The windows in the replay; the critic is trained on their device.
            replay: Their priorities.
            source: Gives each iteration its minibatch and its candidates.
            validation: What `validate` measures on, if anything.
        """
        self.critic = make_critic(transitions, config)  # 2: Q_1, Q_2 with random parameters
        self.target = deepcopy(self.critic).requires_grad_(False)  # 2: targets <- Q_1, Q_2
        self.iterations = config.critic.updates
        self._config, self._transitions, self._replay = config, transitions, replay
        self._source, self._validation = source, validation
        self._device = transitions.device
        self._optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=config.critic.learning_rate, fused=True
        )

    def run(self) -> None:
        """The whole of Algorithm 1, in one go."""
        for step in range(self.iterations):  # 3: for iter = 1 to M do
            self.update(step)  # 13: end for

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        """One iteration, lines 4 to 12.

        Args:
            step: Counts from 0.

        Returns:
            `loss` in units of scaled rewards; mean absolute `td_error`, `q_mean` and `target_mean`
            in units of discounted return; `beta`.
        """
        settings = self._config.critic
        # 4: a minibatch of N transitions (s_t, z, r_{t:t+H}, s_{t+H}); 5-9: n latents for each
        minibatch, candidates = self._source.take(step)
        batch = self._transitions.batch(minibatch.indices)
        latents = batch.draw_latents(generator(self._config.seed, "critic", "latents", step))
        # 10: y = r_{t:t+H} + gamma^H max_z min_j Q_j^target(s_{t+H}, z)
        targets = self._targets(batch, candidates.to(self._device))
        # 11: minimise ||y - Q(s_t, z)||^2 / N
        values = self.critic.q_values(batch.state, latents)
        weights = torch.from_numpy(minibatch.weights).to(self._device)
        loss = weighted_td_loss(values, targets, weights)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        # 12: Theta^target <- rho Theta + (1 - rho) Theta^target
        polyak_update(self.target, self.critic, settings.target_update_rate)
        # B is prioritised: |TD error| is the priority of a transition from now on
        td_errors = (values.detach() - targets).abs().mean(dim=0)
        self._replay.update(minibatch.indices, td_errors.cpu().numpy())
        self._source.updated(step)
        return {
            "loss": loss.detach(),
            "td_error": td_errors.mean() / settings.reward_scale,
            "q_mean": values.detach().mean() / settings.reward_scale,
            "target_mean": targets.mean() / settings.reward_scale,
            "beta": beta_at(settings.replay, step),
        }

    def validate(self) -> Mapping[str, Tensor | float]:
        """Diagnostics on the validation windows: TD error, mean value of the windows' own latents,
        and `candidate_metrics` at s_{t+H}; values are in units of discounted return.
        """
        if self._validation is None:
            return {}
        held_out = self._validation
        with torch.inference_mode():
            targets = self._targets(held_out.transitions, held_out.candidates)
            values = self.critic.q_values(held_out.transitions.state, held_out.latents)
            own = self.critic.score(held_out.transitions.state, held_out.latents.unsqueeze(1))
            found = candidate_metrics(
                self.critic,
                held_out.transitions.next_state,
                held_out.candidates,
                held_out.support,
            )
        scale = self._config.critic.reward_scale
        td_error = (values - targets).abs().mean() / scale
        return {"td_error": td_error, "own_q": own.mean(), **found}

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
            reward = batch.reward * self._config.critic.reward_scale
            targets = max_min_target(
                self.target, reward, batch.discount, batch.next_state, candidates
            )
        # A plain tensor again: autograd saves it for the backward pass of the loss.
        return targets.clone()


@dataclass(frozen=True)
class ValidationBatch:
    """Windows kept from training, with latents drawn once.

    Attributes:
        transitions: (B, ...).
        latents: z ~ q(z | tau), (B, Z).
        candidates: From the prior at s_{t+H}, (B, n, Z).
        support: That of the windows in the replay.
    """

    transitions: Transitions
    latents: Tensor
    candidates: Tensor
    support: Support


def make_critic(transitions: Transitions, config: Config) -> Critic:
    """A fresh critic, normalised by the training windows; its weights depend on the seed only.

    Args:
        transitions: The windows in the replay; the critic comes to their device.
        config: Seed and critic section.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(config.seed, "critic", "weights").initial_seed())
        states, latents = normalisers(transitions)
        critic = Critic(Dimensions(state=len(states.mean), latent=len(latents.mean)), config.critic)
        critic.state_normaliser, critic.latent_normaliser = states, latents
    return critic.to(transitions.device)


def weighted_td_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared TD error of both critics, weighted per sample (line 11; Schaul et al. 2015, 3.4).

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


@torch.no_grad()
def polyak_update(target: nn.Module, online: nn.Module, rate: float) -> None:
    """For every parameter: target <- (1 - rate) target + rate online (line 12).

    Args:
        target: Changed in place.
        online: A module of the same parameters.
        rate: rho, in (0, 1].
    """
    # One call for all of them: they are many and small.
    torch._foreach_lerp_(tuple(target.parameters()), tuple(online.parameters()), rate)
