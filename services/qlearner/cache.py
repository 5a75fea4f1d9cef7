"""Draws the candidates of every next state once, into the store (candidate source `cache`)."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

from common.rpc.stage import Progress
from common.store import CandidateCache, Meta, Store, stage_spec
from ldcq.config import Config
from ldcq.critic.candidates import call_seed, wait_for_samples
from ldcq.critic.transitions import Transitions
from ldcq.latent_prior import Draw, LatentPrior, Samples

LATENTS_PER_CALL = 8192
"""About how many latents one call draws; with the configuration it fixes which call draws what."""


def open_cache(
    store: Store,
    config: Config,
    latents_version: str,
    prior_version: str,
    transitions: Transitions,
) -> CandidateCache:
    """The cache of this prior's candidates at the next states of these windows.

    What decides its content is its identity, so that another run finds what this one has drawn.

    Args:
        store: Where it lives.
        config: Seed, windows, cached candidates and sampling.
        latents_version: The latents whose next states are used.
        prior_version: The prior.
        transitions: The windows in the replay, M.

    Returns:
        A cache of (M, cached_candidates, Z), perhaps partly or wholly drawn.
    """
    critic = config.critic
    latent_dim = transitions.latent_mean.shape[1]
    parents = {"latents": latents_version, "prior": prior_version}
    meta = Meta(
        kind="candidates",
        spec=stage_spec(config, "candidates", parents),
        parents=parents,
        dimensions={"state": transitions.state.shape[1], "latent": latent_dim},
    )
    return CandidateCache(
        store,
        meta,
        len(transitions),
        critic.cached_candidates,
        latent_dim,
        max(1, LATENTS_PER_CALL // critic.cached_candidates),
    )


def fill_cache(
    cache: CandidateCache,
    prior: LatentPrior,
    transitions: Transitions,
    config: Config,
    progress: Progress,
    stop: threading.Event,
) -> None:
    """Draws what is missing, several calls in flight; what is there is kept.

    Args:
        cache: Where latents go.
        prior: Draws them.
        transitions: The windows of the replay.
        config: Cached candidates, calls in flight, sampling and seed.
        progress: Told the chunks done.
        stop: Set when the process is asked to end.

    Raises:
        Stopped: `stop` was set; the chunks drawn so far are in the store.
        PriorUnavailableError: No replica answered for as long as the client is patient.
        ModelVersionError: The service holds another model version.
    """
    missing = deque(cache.missing())
    done = cache.chunks - len(missing)
    calls: deque[tuple[int, Future[Samples]]] = deque()
    while missing or calls:
        while missing and len(calls) < config.critic.calls_in_flight:
            chunk = missing.popleft()
            draw = Draw(
                states=transitions.next_states(cache.rows_of(chunk)),
                candidates=config.critic.cached_candidates,
                options=config.critic.sampling,
                seed=call_seed(config.seed, "cache", chunk),
            )
            calls.append((chunk, prior.sample_async(draw)))
        progress.running(done, cache.chunks, message="drawing candidates")
        chunk, call = calls.popleft()
        cache.write(chunk, wait_for_samples(call, stop).latents)
        done += 1
    progress.running(done, cache.chunks, message="drawing candidates")
    cache.complete()
