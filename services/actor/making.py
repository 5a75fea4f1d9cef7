"""From a configured method to its policy."""

from __future__ import annotations

from dataclasses import replace

from ldcq.config import Config, resolve_variant
from ldcq.policies.base import (
    ClonedPolicy,
    LatentPlanPolicy,
    NearGoal,
    PolicySettings,
    SampledPolicy,
)
from ldcq.policies.costs import find_cost
from ldcq.policies.ldcp import PlannedPolicy
from services.actor.models import Models
from services.actor.priors import Priors


def make_policy(base: Config, method: str, models: Models, priors: Priors) -> LatentPlanPolicy:
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
    chosen = base.evaluation.methods[method]
    config = resolve_variant(base, chosen.variant)
    actor = config.actor
    settings = PolicySettings(
        candidates=actor.candidates if models.critic is not None else 1,
        execute_steps=actor.execute_steps or models.decoder.horizon,
        sampling=actor.sampling,
        sample_actions=actor.sample_actions,
        near_goal=_near_goal(config),
    )
    if chosen.policy == "bc":
        none = replace(settings, candidates=0, depth=0, execute_steps=1, near_goal=None)
        return ClonedPolicy(method, models, none)
    client = priors.client(chosen.variant)
    settings = replace(settings, max_rows=client.describe().max_rows)
    if models.world_model is None:
        return SampledPolicy(method, models, client, settings)
    planning = actor.planning
    settings = replace(settings, candidates=planning.candidates, depth=planning.depth)
    return PlannedPolicy(method, models, client, settings, find_cost(config))


def _near_goal(config: Config) -> NearGoal | None:
    near = config.actor.near_goal
    if near is None:
        return None
    return NearGoal(config.data.goal_indices, near.distance, near.execute_steps)
