"""What a critic is trained with: the prior service, its candidates, and a batch to validate on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

from common.models import sampler_of
from common.rpc.clients import PriorClient
from common.rpc.settings import IN_PROCESS
from common.store import Room, open_latents, owning_variant
from common.store.served import served_version
from common.training.context import StageContext
from common.training.device import resolve_device
from ldcq.config import Config, ConfigError
from ldcq.critic.algorithm1 import ValidationBatch
from ldcq.critic.candidates import (
    CachedCandidates,
    CandidateSource,
    NoCandidates,
    OnlineCandidates,
    call_seed,
)
from ldcq.critic.diagnostics import Support
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import (
    Transitions,
    training_rows,
    validation_rows,
)
from ldcq.latent_prior import Draw, LatentPrior
from ldcq.learning.batches import generator
from services.qlearner.cache import fill_cache, open_cache

CALL_TIMEOUT_SECONDS = 3600.0
"""Deadline of one call: the paper's 128 x 500 latents in 200 steps take minutes on a CPU, and calls
in flight queue behind each other. A replica that is gone is noticed by keepalive, not by this."""

SWAP_PATIENCE_SECONDS = 30.0
"""How long replicas may serve another prior in the middle of training before that ends it."""


@contextmanager
def candidates_prior(context: StageContext, version: str) -> Iterator[LatentPrior]:
    """The prior of this variant: behind its service, once that serves what was resolved from the
    store, or in this process.

    Args:
        context: The stage's; names the prior's address.
        version: The prior's artifact.

    Raises:
        ConfigError: No address was given, or one update needs more latents than a call may draw.
        UnknownPriorError: It is to be drawn from here, but its implementation is not installed.
        Stopped: Asked to stop while waiting.
        CallError: What answers is no usable prior.
    """
    owner = owning_variant(context.base, context.variant, "prior")
    target = context.prior_targets.get(owner)
    if target is None:
        given = ", ".join(sorted(context.prior_targets)) or "none"
        raise ConfigError(
            f"prior target of variant {owner!r} is missing (given for: {given}); expected the "
            f"address of its prior service, as in --prior {owner}=HOST:PORT"
        )
    if target == IN_PROCESS:
        artifact = context.store.load("prior", version)
        sampler = sampler_of(artifact, resolve_device(context.config))
        _check_room(context.config, sampler, "the prior")
        yield sampler
        return
    with PriorClient(
        target,
        timeout=CALL_TIMEOUT_SECONDS,
        version_patience=SWAP_PATIENCE_SECONDS,
        max_in_flight=context.config.critic.calls_in_flight,
    ) as client:
        served = served_version(version, context.store.meta("prior", version))
        client.wait_ready(context.progress.waiting, context.stop, expected_version=served)
        pinned = client.pinned(served)
        _check_room(context.config, pinned, f"the prior at {target}")
        yield pinned


def _check_room(config: Config, prior: LatentPrior, name: str) -> None:
    needed, most = config.critic.batch_size * config.critic.candidates, prior.describe().max_rows
    if needed > most:
        raise ConfigError(
            f"critic.batch_size x critic.candidates is {needed}, expected at most {most}: "
            f"what {name} draws in one call"
        )


def chosen_windows(
    context: StageContext, parents: Mapping[str, str], device: torch.device
) -> tuple[Transitions, Transitions]:
    """The windows in the replay, and held-out ones, at most a batch; both copied from the table.

    Args:
        context: The stage's.
        parents: Versions of the latents and of the VAE that made them.
        device: Where batches go.

    Raises:
        LineageError: Another VAE made the latents.
        DataError: There are no training windows.
        StoreError: The latents are damaged, or the disk does not take them.
    """
    config, memory = context.config, context.config.training.memory
    table = open_latents(
        context.store, parents["latents"], vae_version=parents["vae"], memory=memory
    )
    critic, room = config.critic, Room(context.store.root, memory)
    replayed = training_rows(table, critic.windows, config.seed, critic.reward_windows)
    held_out = validation_rows(table, critic.batch_size, config.seed)
    return (
        Transitions.of(table, replayed, device, room),
        Transitions.of(table, held_out, device),
    )


def validation_batch(
    context: StageContext,
    prior: LatentPrior,
    windows: Transitions,
    held_out: Transitions,
) -> ValidationBatch | None:
    """Held-out windows with latents drawn once; None where none are held out.

    Args:
        context: The stage's.
        prior: Draws the candidates.
        windows: Those in the replay, whose support is known.
        held_out: The windows kept from it.

    Raises:
        PriorUnavailableError, ModelVersionError: As `PriorClient.sample`.
    """
    config = context.config
    if not len(held_out):
        return None
    draw = Draw(
        states=held_out.next_states(slice(None)),
        candidates=config.critic.candidates,
        options=config.critic.sampling,
        seed=call_seed(config.seed, "validation", 0),
    )
    own = held_out.batch(slice(None))
    latents = own.draw_latents(generator(config.seed, "critic", "validation"))
    return ValidationBatch(
        own,
        latents,
        torch.from_numpy(np.array(prior.sample(draw).latents)).to(held_out.device),
        Support.of(windows, own.state, latents),
    )


def candidate_source(
    context: StageContext,
    prior: LatentPrior,
    prior_version: str,
    latents_version: str,
    transitions: Transitions,
    replay: PrioritisedReplay,
) -> CandidateSource:
    """The source that `critic.candidate_source` names, a cache filled first; batches alone where
    `critic.target` needs no candidates.

    Args:
        context: The stage's.
        prior: Draws the candidates.
        prior_version: The artifact that they are of, which names the cache.
        latents_version: The latents that `transitions` were chosen from.
        transitions: The windows in the replay.
        replay: Where batches are drawn from.

    Raises:
        PriorUnavailableError, ModelVersionError, Stopped: As `fill_cache`.
    """
    config = context.config
    if not config.critic.needs_candidates:
        return NoCandidates(config, replay)
    if config.critic.candidate_source == "online":
        return OnlineCandidates(config, prior, transitions, replay, context.stop)
    cache = open_cache(context.store, config, latents_version, prior_version, transitions)
    try:
        fill_cache(
            cache,
            prior,
            transitions,
            config,
            context.progress,
            context.stop,
        )
        cached = cache.load(Room(context.store.root, config.training.memory))
        return CachedCandidates(config, cached, replay)
    finally:
        cache.close()
