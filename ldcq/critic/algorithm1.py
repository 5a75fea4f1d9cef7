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
from ldcq.critic.targets import argmax_min, bootstrapped, expectile_loss, hl_gauss
from ldcq.critic.transitions import Transitions, normalisers
from ldcq.learning.batches import generator, moved
from ldcq.learning.captured import Tensors
from ldcq.learning.descent import Descent
from ldcq.nn.model import Dimensions


class LDCQ:
    """Learns Q(s, z) over latents that the prior supports; numbers in the margin are the paper's.

    With candidates of a Gaussian prior instead of the diffusion prior's this is BCQ-H.

    Attributes:
        critic: Q_1 and Q_2 (and V, where `critic.target` or `critic.dueling` asks for it).
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
        self._descent = Descent(
            self.critic,
            self._lines_10_to_11,
            learning_rate=config.critic.learning_rate,
            schedule=config.critic.schedule,
            total=self.iterations,
            after=self._line_12,
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
        drawn = {
            "latents": batch.draw_latents(generator(self._config.seed, "critic", "latents", step)),
            "candidates": candidates,
            "weights": torch.from_numpy(minibatch.weights),
            # The first batches' spreads count alike, later ones a hundredth.
            "pace": torch.tensor(max(1 / (step + 1), 0.01)),
        }
        inputs = {name: moved(tensor, self._device) for name, tensor in drawn.items()}
        # 10-12: on a GPU as one graph
        found = self._descent.step({**batch.columns, **inputs})
        # B is prioritised: |TD error| is the priority of a transition from now on; a uniform replay
        # does not wait for the GPU
        if settings.replay.alpha:
            self._replay.update(minibatch.indices, found["td_errors"].cpu().numpy())
        self._source.updated(step)
        return {
            "loss": found["q_loss"],
            "td_error": found["td_errors"].mean() / settings.reward_scale,
            "q_mean": found["q_mean"] / settings.reward_scale,
            "target_mean": found["target_mean"] / settings.reward_scale,
            "beta": beta_at(settings.replay, step),
        }

    def _lines_10_to_11(self, inputs: Tensors) -> dict[str, Tensor]:
        """Targets, and what is descended along."""
        columns, settings = dict(inputs), self._config.critic
        latents, candidates, weights, pace = (
            columns.pop(name) for name in ("latents", "candidates", "weights", "pace")
        )
        batch = Transitions(used_on=None, **columns)
        # 10: y = r_{t:t+H} + gamma^H max_z min_j Q_j^target(s_{t+H}, z), or by another rule
        targets = self._targets(batch, candidates)
        # 11: minimise ||y - Q(s_t, z)||^2 / N; a dueling critic learns y - V(s_t), in its spread
        raw, sought = self.critic.outputs(batch.state, latents), targets
        outputs = self.critic.read(raw)
        value_loss = torch.zeros((), device=self._device)
        if self.critic.value is not None:
            value_loss = self._value_loss(batch, latents, candidates, targets, weights)
        if settings.dueling:
            advantages = targets - self.critic.v_values(batch.state).detach().unsqueeze(1)
            self.critic.follow_spread(advantages, pace)
            self.target.spread.copy_(self.critic.spread)  # the unit of both networks' advantages
            sought = advantages / self.critic.spread
        if settings.bins:
            shares = hl_gauss(sought, self.critic.edges)
            loss = weighted_cross_entropy(self.critic.logits(raw), shares, weights)
        else:
            loss = weighted_td_loss(outputs, sought, weights)
        errors = self.critic.spread * (outputs - sought).detach()
        return {
            "loss": loss + value_loss,
            "q_loss": loss,
            "td_errors": errors.abs().mean(dim=(0, 2)),
            "q_mean": (targets + errors).mean(),
            "target_mean": targets.mean(),
        }

    def _line_12(self) -> None:
        """Theta^target <- rho Theta + (1 - rho) Theta^target."""
        polyak_update(self.target, self.critic, self._config.critic.target_update_rate)

    def validate(self) -> Mapping[str, Tensor | float]:
        """Diagnostics on the validation windows: TD error, mean value of the windows' own latents,
        and `candidate_metrics` at s_{t+H}; values are in units of discounted return.
        """
        if self._validation is None:
            return {}
        held_out = self._validation
        with torch.inference_mode():
            targets = self._targets(held_out.transitions, held_out.candidates)
            values = self.critic.q_by_length(held_out.transitions.state, held_out.latents)
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
            **self._descent.state_dict(),
            "replay": self._replay.state_dict(),
            "source": self._source.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`, bit for bit."""
        self.critic.load_state_dict(state["critic"])
        self.target.load_state_dict(state["target"])
        self._descent.load_state_dict(state)
        self._replay.load_state_dict(state["replay"])
        self._source.load_state_dict(state["source"])

    def _targets(self, batch: Transitions, candidates: Tensor) -> Tensor:
        """The targets y_k of a batch, in units of scaled rewards, (B, K)."""
        with torch.inference_mode():
            outcome = batch.by_length(self._config.lengths, self._config.discount)
            worth = self._worth(batch, outcome.states, candidates)
            rewards = outcome.rewards * self._config.critic.reward_scale
            targets = bootstrapped(rewards, outcome.discounts, worth)
            if self._config.critic.bounds is not None:
                low, high = self._config.critic.bounds
                scale = self._config.critic.reward_scale
                targets = targets.clamp(scale * low, scale * high)
        # A plain tensor again: autograd saves it for the backward pass of the loss.
        return targets.clone()

    def _worth(self, batch: Transitions, following: Tensor, candidates: Tensor) -> Tensor:
        """V(s_{t+k}) by the rule `critic.target`, (B, K); see `ldcq.critic.targets`."""
        rule, target = self._config.critic.target, self.target
        if self._config.critic.has_value_network:
            return target.v_values(following.flatten(0, 1)).view(following.shape[:2])
        if rule == "max_min":
            return target.greatest(batch.next_state, candidates).unsqueeze(1)
        if rule == "argmax_min":
            values = target.q_values(batch.next_state, candidates)
            return argmax_min(values, self._config.critic.deviations).unsqueeze(1)
        return target.lower_q(batch.next_state, candidates)[..., -1].mean(dim=1, keepdim=True)

    def _value_loss(
        self,
        batch: Transitions,
        latents: Tensor,
        candidates: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """What V(s) learns by the rule: an expectile, or the mean that advantages are over."""
        settings = self._config.critic
        states, expectile = batch.state, settings.expectile
        if settings.target == "expectile_prior":
            states = batch.next_state
            sought = self._lower(states, candidates)[..., -1]
        elif settings.target == "expectile_data":
            sought = self._lower(states, latents.unsqueeze(1)).squeeze(1)
        else:
            sought = targets
        if not settings.has_value_network:
            expectile = 0.5
        differences = sought - self.critic.v_values(states).unsqueeze(1)
        return expectile_loss(differences, expectile, weights)

    def _lower(self, states: Tensor, latents: Tensor) -> Tensor:
        with torch.no_grad():
            return self.target.lower_q(states, latents)


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
        dimensions = Dimensions(
            state=len(states.mean), latent=len(latents.mean), lengths=1 + len(config.lengths)
        )
        critic = Critic(dimensions, config.critic)
        critic.state_normaliser, critic.latent_normaliser = states, latents
    return critic.to(transitions.device)


def weighted_td_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Squared TD error of all critics, weighted per sample (line 11; Schaul et al. 2015, 3.4).

    Args:
        values: Q_1, ..., Q_J of the batch, (J, B, K).
        targets: y, (B, K), without gradient.
        weights: Importance weights, (B,).

    Returns:
        Mean over batch and lengths of w_i sum_j (Q_j - y)_i^2, a scalar.

    Raises:
        ValueError: Shapes that would broadcast: a (B, 1) among (B,) makes a (B, B) product whose
            mean cancels the weights.
    """
    if values.shape[1:] != targets.shape or weights.shape != targets.shape[:1]:
        raise ValueError(
            f"values, targets and weights have shapes {tuple(values.shape)}, "
            f"{tuple(targets.shape)} and {tuple(weights.shape)}, expected (J, B, K), (B, K), (B,)"
        )
    return (weights.unsqueeze(1) * (values - targets).square().sum(dim=0)).mean()


def weighted_cross_entropy(logits: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of all critics' distributions over bins, weighted per sample.

    Args:
        logits: Of the batch, (J, B, K, bins).
        shares: The distributions sought, (B, K, bins), without gradient.
        weights: Importance weights, (B,).

    Returns:
        Mean over batch and lengths of w_i sum_j H_ij, a scalar.
    """
    entropies = -(shares * logits.log_softmax(dim=-1)).sum(dim=(0, -1))
    return (weights.unsqueeze(1) * entropies).mean()


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
