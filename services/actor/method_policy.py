"""From a configured method to its policy."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ldcq.config import Config, resolve_variant
from ldcq.policies.base import LatentPlanPolicy
from ldcq.policies.by_name import make_policy
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


def method_policy(base: Config, method: str, models: Models, priors: Priors) -> MethodPolicy:
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
    prior = None
    if models.prior_version:
        prior = priors.prior(chosen.variant, models.served_version)
    assert chosen.policy != "behaviour"
    policy = make_policy(
        chosen.policy,
        resolve_variant(base, chosen.variant),
        models.decoder,
        prior,
        models.critic,
        models.world_model,
    )

    def watch(part: str) -> AbstractContextManager[object]:
        if part == "choose":
            return metrics.CHOOSE_SECONDS.labels(method).time()
        return metrics.DECODE_SECONDS.time()

    policy.watch = watch
    return MethodPolicy(method, models, policy)
