"""From the name of a policy and trained models to the policy."""

from __future__ import annotations

from typing import Literal, get_args

from ldcq.config import Config
from ldcq.critic.critic import Critic
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Execution, LatentPlanPolicy, NearGoal
from ldcq.policies.bc import BcPolicy
from ldcq.policies.costs import Cost, find_cost
from ldcq.policies.ldcp import LdcpPolicy
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.policies.ldgc import LdgcPolicy
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.world_model import WorldModel

PolicyName = Literal["ldcq", "bcq_h", "ldgc", "prior", "ldcp", "bc"]


def make_policy(
    name: PolicyName,
    config: Config,
    decoder: LowLevelPolicy,
    prior: LatentPrior | None = None,
    critic: Critic | None = None,
    world_model: WorldModel | None = None,
    cost: Cost | None = None,
) -> LatentPlanPolicy:
    """The policy of that name, executed as the section `actor` says.

    Args:
        name: `ldcq`, `bcq_h`, `ldgc`, `prior` (one latent without a goal), `ldcp` or `bc`.
        config: The pipeline's own configuration.
        decoder: pi(a | s, z); for `bc` pi(a | s).
        prior: All but `bc` need it.
        critic: `ldcq` and `bcq_h` need it.
        world_model: `ldcp` needs it, and with `actor.support` or `actor.lookahead` so
            do `ldcq` and `bcq_h`.
        cost: What a plan of `ldcp` is judged by; None: as `actor.planning.cost` says.

    Raises:
        ValueError: No such policy, or a model that it needs is missing.
        ConfigError: More candidates than the prior gives in one draw, or a cost that cannot be had.
    """
    actor = config.actor
    if name == "bc":
        return BcPolicy(decoder, actor.sample_actions)
    execution = Execution(
        actor.execute_steps or decoder.dimensions.horizon, actor.sample_actions, _near_goal(config)
    )
    complete = world_model is not None or not actor.needs_world_model
    if name in ("ldcq", "bcq_h") and prior is not None and critic is not None and complete:
        return LdcqPolicy(
            decoder,
            prior,
            critic,
            candidates=actor.candidates,
            sampling=actor.sampling,
            execution=execution,
            lengths=config.lengths,
            world_model=world_model if actor.needs_world_model else None,
            support=actor.support,
            lookahead=actor.lookahead,
        )
    if name in ("ldgc", "prior") and prior is not None:
        return LdgcPolicy(decoder, prior, actor.sampling, execution)
    if name == "ldcp" and prior is not None and world_model is not None:
        return LdcpPolicy(
            decoder,
            prior,
            world_model,
            cost=cost or find_cost(config),
            candidates=actor.planning.candidates,
            depth=actor.planning.depth,
            sampling=actor.sampling,
            execution=execution,
            goal_dim=len(config.data.goal_indices),
        )
    raise ValueError(
        f"policy: got {name!r} with prior={prior is not None}, critic={critic is not None}, "
        f"world_model={world_model is not None}; expected one of {', '.join(get_args(PolicyName))} "
        "and all models that it needs"
    )


def _near_goal(config: Config) -> NearGoal | None:
    near = config.actor.near_goal
    if near is None:
        return None
    return NearGoal(config.data.goal_indices, near.distance, near.execute_steps)
