"""The critic's stage: from latents and a served prior to a published critic."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import JsonValue

from common.config import ConfigError, dump
from common.nn.critic import Critic
from common.rpc.clients import PriorClient
from common.store import (
    LatentTable,
    LineageError,
    Meta,
    open_latents,
    owning_variant,
    stage_spec,
)
from common.training import Checkpoints, configure_torch, generator, train
from common.training.context import StageContext
from services.qlearner.cache import fill_cache, open_cache
from services.qlearner.candidates import (
    CachedCandidates,
    CandidateSource,
    OnlineCandidates,
    call_seed,
)
from services.qlearner.learner import CriticLearner, ValidationBatch
from services.qlearner.replay import PrioritisedReplay
from services.qlearner.transitions import Transitions, training_rows, validation_rows

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parents:
    vae: str
    latents: str
    prior: str

    def as_dict(self) -> dict[str, str]:
        return {"vae": self.vae, "latents": self.latents, "prior": self.prior}


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the critic, unless it is there already.

    Args:
        context: Its `prior_targets` must name the service of the prior that this variant uses.

    Returns:
        The critic's version.

    Raises:
        ConfigError: No address of the prior service was given, or one update needs more latents
            than the prior gives per call.
        LineageError: The latents, the prior and the VAE do not belong together.
        ModelVersionError: The service answered with another prior than the store's.
        PriorUnavailableError: The prior service stayed away; the last checkpoint is there to
            resume from.
        Stopped: The process was asked to end; it can be resumed.
    """
    parents = _resolve_parents(context)
    spec = stage_spec(context.config, "critic", parents.as_dict())
    owner = owning_variant(context.base, context.variant, "critic")
    found = context.store.find("critic", spec)
    if found is not None:
        context.store.point("critic", found, owner)
        context.progress.published(found, reused=True)
        return found
    table = open_latents(context.store, parents.latents, vae_version=parents.vae)
    critic = _train(context, parents, spec, table)
    meta = Meta(
        kind="critic",
        implementation="clipped_double_q",
        spec=spec,
        parents=parents.as_dict(),
        dimensions=dict(table.meta.dimensions)
        | {"state": critic.state_dim, "latent": critic.latent_dim},
        details=critic.details(),
    )
    tensors = {name: value.cpu().numpy() for name, value in critic.state_dict().items()}
    version = context.store.publish(meta, tensors, dump(context.config), owner)
    context.progress.published(version)
    return version


def _resolve_parents(context: StageContext) -> _Parents:
    """Waits for the three artifacts and checks that they were made for each other."""
    parents = _Parents(*(context.wait_for(kind) for kind in ("vae", "latents", "prior")))
    made_with = context.store.meta("prior", parents.prior).parents.get("vae")
    made_by = context.store.meta("latents", parents.latents).parents.get("vae")
    if not made_with == made_by == parents.vae:
        raise LineageError(
            f"prior {parents.prior} was trained on latents of VAE {made_with} and latents "
            f"{parents.latents} were made by VAE {made_by}, expected both of VAE {parents.vae}: "
            "start the vae and prior stages again"
        )
    return parents


def _train(
    context: StageContext, parents: _Parents, spec: dict[str, JsonValue], table: LatentTable
) -> Critic:
    config = context.config
    device = configure_torch(config)
    rows = training_rows(table, config.critic.windows, config.seed)
    transitions = Transitions.of(table, rows, device)
    replay = PrioritisedReplay(config.critic.replay, len(transitions))
    client = _connect(context, parents.prior)
    try:
        validation = _validation_batch(context, client, parents.prior, table, device)
        source = _candidate_source(context, client, parents.prior, table, transitions, replay)
        learner = CriticLearner(config, transitions, replay, source, validation)
        train(
            learner,
            stage="critic",
            total=config.critic.updates,
            checkpoints=Checkpoints(
                context.store.root, "critic", spec, config.training.keep_checkpoints
            ),
            progress=context.progress,
            config=config.training,
            logs=context.store.root / "logs",
            stop=context.stop,
        )
    finally:
        client.close()
    return learner.critic


def _connect(context: StageContext, prior_version: str) -> PriorClient:
    """A client of this variant's prior, once that serves the version resolved from the store."""
    owner = owning_variant(context.base, context.variant, "prior")
    target = context.prior_targets.get(owner)
    if target is None:
        given = ", ".join(sorted(context.prior_targets)) or "none"
        raise ConfigError(
            f"prior target of variant {owner!r} is missing (given for: {given}); expected the "
            f"address of its prior service, as in --prior {owner}=HOST:PORT"
        )
    client = PriorClient(target)
    try:
        client.wait_ready(
            expected_version=prior_version, on_wait=context.progress.waiting, stop=context.stop
        )
        critic, most = context.config.critic, client.describe().max_rows
        needed = critic.batch_size * critic.candidates
        if needed > most:
            raise ConfigError(
                f"critic.batch_size x critic.candidates is {needed}, expected at most {most}: "
                f"what the prior at {target} draws in one call"
            )
    except BaseException:
        client.close()
        raise
    return client


def _validation_batch(
    context: StageContext,
    client: PriorClient,
    prior_version: str,
    table: LatentTable,
    device: torch.device,
) -> ValidationBatch | None:
    config = context.config
    rows = validation_rows(table, config.critic.batch_size, config.seed)
    if not len(rows):
        return None
    transitions = Transitions.of(table, rows, device)
    samples = client.sample(
        table.next_state[rows],
        config.critic.candidates,
        seed=call_seed(config.seed, "validation", 0),
        options=config.critic.sampling,
        expected_version=prior_version,
    )
    return ValidationBatch(
        transitions,
        transitions.draw_latents(generator(config.seed, "critic", "validation")),
        torch.from_numpy(np.array(samples.latents)).to(device),
    )


def _candidate_source(
    context: StageContext,
    client: PriorClient,
    prior_version: str,
    table: LatentTable,
    transitions: Transitions,
    replay: PrioritisedReplay,
) -> CandidateSource:
    config = context.config
    if config.critic.candidate_source == "online":
        return OnlineCandidates(
            config, client, prior_version, transitions.next_state, replay, context.stop
        )
    cache = open_cache(context.store, config, table, prior_version, len(transitions))
    try:
        fill_cache(
            cache,
            client,
            prior_version,
            transitions.next_state.cpu().numpy(),
            config,
            context.progress,
            context.stop,
        )
        return CachedCandidates(config, cache.load(), replay)
    finally:
        cache.close()
