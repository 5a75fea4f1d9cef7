"""The stage for a prior that others train and serve: the store only learns what is served."""

from __future__ import annotations

import logging
from functools import partial

from common.rpc.clients import PriorClient
from common.rpc.errors import FailedPreconditionError
from common.store import owning_variant
from common.store.served import SERVED
from common.training.context import StageContext
from common.training.making import Making, run_once
from ldcq.latent_prior import Description
from ldcq.nn.model import Dimensions
from ldcq.registry import registered

_LOGGER = logging.getLogger(__name__)

KIND = "prior"
_POLL_SECONDS = 0.5


def foreign_target(context: StageContext) -> str | None:
    """Where the variant's prior is served by others; None: it is trained here.

    That is so where no implementation of its name is installed, but an address of it was given.
    """
    if context.config.prior.implementation in registered():
        return None
    owner = owning_variant(context.base, context.variant, KIND)
    return context.prior_targets.get(owner)


def adopt(context: StageContext) -> str:
    """Publishes an artifact that stands for the prior that others serve, after waiting for the VAE,
    its latents and the servers.

    Q-learner and actor find it in the lineage like any other, and call its servers with the version
    that these announce.

    Returns:
        The artifact's version.

    Raises:
        FailedPreconditionError: What is served is not the configured prior of these latents.
        CallError: What answers is no usable prior.
        Stopped: Asked to stop while waiting.
    """
    target = foreign_target(context)
    assert target is not None
    _LOGGER.warning(
        "prior.implementation %r is none of those installed (%s): taking what %s serves under it",
        context.config.prior.implementation,
        ", ".join(registered()),
        target,
    )
    parents = context.wait_for_parents(KIND)
    with PriorClient(target) as client:
        served = _wait_for_vae(context, client, parents["vae"])
    named = {**parents, SERVED: served.model_version}
    return run_once(context, KIND, named, partial(_publish, served, target))


def _wait_for_vae(context: StageContext, client: PriorClient, vae: str) -> Description:
    """What is served, once that is a prior over the latents of this VAE."""
    told = False
    while True:
        served = client.wait_ready(context.progress.waiting, context.stop)
        if served.vae_version == vae:
            return served
        if not told:
            context.progress.waiting(
                f"waiting for the prior at {client.target} to serve latents of VAE {vae}; "
                f"it serves those of {served.vae_version}"
            )
            told = True
        context.stop.wait(_POLL_SECONDS)


def _publish(served: Description, target: str, making: Making) -> str:
    store, parents = making.context.store, making.parents
    latents = store.meta("latents", parents["latents"]).dimensions
    state, latent = latents.get("state"), latents.get("latent")
    found = {
        "implementation": (served.implementation, making.context.config.prior.implementation),
        "state_dim": (served.state_dim, state or served.state_dim),
        "latent_dim": (served.latent_dim, latent or served.latent_dim),
    }
    for field, (given, expected) in found.items():
        if given != expected:
            raise FailedPreconditionError(
                f"the prior at {target} says {field} {given!r}, expected {expected!r}"
                f" (prior.implementation and the latents of this store decide that)"
            )
    dimensions = Dimensions(state=served.state_dim, latent=served.latent_dim, goal=served.goal_dim)
    meta = making.meta(implementation=served.implementation, dimensions=dimensions.model_dump())
    return making.publish_artifact(meta, {})
