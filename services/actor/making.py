"""From a configured method to its policy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ldcq.config import Config, resolve_variant
from ldcq.policies.base import Execution, LatentPlanPolicy, NearGoal
from ldcq.policies.bc import BcPolicy
from ldcq.policies.costs import find_cost
from ldcq.policies.ldcp import LdcpPolicy
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.policies.ldgc import LdgcPolicy
from services.actor import metrics
from services.actor.models import Models
from services.actor.priors import Priors


@dataclass(frozen=True)
class MethodPolicy:
    """A method that acts.

    Attributes:
        method: A key of `evaluation.methods`.
        models: What it executes.
        policy: How.
    """

    method: str
    models: Models
    policy: LatentPlanPolicy


def make_policy(base: Config, method: str, models: Models, priors: Priors) -> MethodPolicy:
    """The policy of a configured method over loaded models.

    Args:
        base: The main pipeline's configuration.
        method: A key of `evaluation.methods`, but none of policy `behaviour`.
        models: Its models.
        priors: The prior services.

    Raises:
        MissingPriorError: No prior service is known for the method's variant.
        RpcError: The prior service does not answer.
        ConfigError: More candidates than the prior service gives in one call, or a cost that cannot
            be had.
    """
    policy = _policy(base, method, models, priors)

    def watch(part: str) -> AbstractContextManager[object]:
        if part == "choose":
            return metrics.CHOOSE_SECONDS.labels(method).time()
        return metrics.DECODE_SECONDS.time()

    policy.watch = watch
    return MethodPolicy(method, models, policy)


def _policy(base: Config, method: str, models: Models, priors: Priors) -> LatentPlanPolicy:
    chosen = base.evaluation.methods[method]
    config = resolve_variant(base, chosen.variant)
    actor, decoder = config.actor, models.decoder
    if models.bc_version:
        return BcPolicy(decoder, actor.sample_actions)
    execution = Execution(
        actor.execute_steps or decoder.dimensions.horizon, actor.sample_actions, _near_goal(config)
    )
    prior = priors.client(chosen.variant).pinned(models.served_version)
    if models.critic is not None:
        return LdcqPolicy(
            decoder, prior, models.critic, actor.candidates, actor.sampling, execution
        )
    if models.world_model is not None:
        return LdcpPolicy(
            decoder,
            prior,
            models.world_model,
            find_cost(config),
            actor.planning.candidates,
            actor.planning.depth,
            actor.sampling,
            execution,
            goal_dim=models.goal_dim,
        )
    return LdgcPolicy(decoder, prior, actor.sampling, execution)


def _near_goal(config: Config) -> NearGoal | None:
    near = config.actor.near_goal
    if near is None:
        return None
    return NearGoal(config.data.goal_indices, near.distance, near.execute_steps)
