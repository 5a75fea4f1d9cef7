"""Draws what the latent figure compares: latents of the data, and samples of every prior at the
same states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.store import Store, open_latents
from ldcq.config import Config, resolve_variant
from ldcq.data.latents import LatentTable
from ldcq.data.statistics import scale
from ldcq.latent_prior import Draw
from services.actor.priors import Priors
from services.actor.report.latent_figure import LatentSamples

MANY = 1500
"""States at which each prior draws one latent."""
NEAR = 400
"""Latents at one state; as many of the data's states around it."""
_SEARCHED = 50_000
"""Windows among which neighbours are looked for."""
_ANCHORS = 48
"""States that are tried as the one state."""
_SEED = 0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class EvaluatedPrior:
    """A prior that took part in an evaluation."""

    name: str  # what a reader calls it
    variant: str
    version: str


def evaluated_priors(
    base: Config, store: Store, parents: Mapping[str, str]
) -> list[EvaluatedPrior]:
    """The priors in an evaluation's lineage; the main pipeline's first.

    Priors of another VAE than the first's are left out: their latents lie in another space.
    """
    found: list[EvaluatedPrior] = []
    vae = ""
    for key in sorted(parents):
        kind, _, variant = key.partition(".")
        if kind != "prior":
            continue
        meta = store.meta("prior", parents[key])
        vae = vae or meta.parents["vae"]
        if meta.parents["vae"] == vae:
            name = meta.implementation
            if name in {prior.name for prior in found}:
                name = f"{name} ({variant})"
            found.append(EvaluatedPrior(name, variant or base.variant, parents[key]))
    return found


def draw_latents(
    base: Config, store: Store, priors: Priors, evaluated: list[EvaluatedPrior]
) -> LatentSamples:
    """Asks every prior for samples over many states of the data, and at one of them.

    Raises:
        MissingPriorError: No service is known for one of them.
        RpcError: A service does not answer, or serves another version.
        StoreError: The latents that the priors learned from are not there.
    """
    latents_version = store.meta("prior", evaluated[0].version).parents["latents"]
    table = open_latents(store, latents_version, memory=base.training.memory)
    random = np.random.default_rng(_SEED)
    rows = random.permutation(len(table))[: max(_SEARCHED, MANY)]
    states = table.state[rows]
    anchors = random.permutation(len(states))[:_ANCHORS]
    anchor, near = neighbourhood(states, anchors, NEAR)
    many, near = rows[:MANY], rows[near]
    ends, ends_near = table.next_state[many], table.next_state[near]
    state = states[[anchor]]
    return LatentSamples(
        data=posterior(table, many, random),
        priors={p.name: _sample(base, priors, p, states[:MANY], ends) for p in evaluated},
        data_near=posterior(table, near, random),
        priors_near={p.name: _sample(base, priors, p, state, ends_near) for p in evaluated},
    )


def posterior(table: LatentTable, rows: NDArray[np.int64], random: np.random.Generator) -> Array:
    """One draw of q(z | tau) per window, which is what a prior learns to match."""
    mean, std = table.latent_mean[rows], table.latent_std[rows]
    draws: Array = mean + std * random.standard_normal(mean.shape, dtype=np.float32)
    return draws


def _sample(
    base: Config, priors: Priors, prior: EvaluatedPrior, states: Array, ends: Array
) -> Array:
    """As many latents as there are `ends` (M, S), spread evenly over the states.

    A prior with goals is asked for latents that lead to these ends.
    """
    pinned = priors.prior(prior.variant, prior.version)
    description, config = pinned.describe(), resolve_variant(base, prior.variant)
    sampling, candidates = config.actor.sampling, len(ends) // len(states)
    goals = None
    if description.goal_dim:
        goals, states = ends[:, list(config.data.goal_indices)], np.repeat(states, candidates, 0)
        candidates = 1
    per_call = max(1, description.max_rows // candidates)
    draws = [
        Draw(
            states=states[start : start + per_call],
            candidates=min(candidates, description.max_rows),
            options=sampling,
            seed=_SEED + start,
            goals=None if goals is None else goals[start : start + per_call],
        )
        for start in range(0, len(states), per_call)
    ]
    latents = np.concatenate([pinned.sample(draw).latents for draw in draws])
    return latents.reshape(-1, latents.shape[-1])


def neighbourhood(
    states: Array, anchors: NDArray[np.int64], count: int
) -> tuple[int, NDArray[np.int64]]:
    """A state that the data visits often, and the states nearest to it.

    Args:
        states: Raw, (N, S).
        anchors: Rows of those that are tried.
        count: How many shall be near; all, where there are fewer.

    Returns:
        The row of the state whose neighbours are nearest, and their rows, (count,).
    """
    mean = states.mean(axis=0)
    scaled = (states - mean) / scale(mean, states.std(axis=0))
    count = min(count, len(states))
    tightest, anchor, rows = np.inf, 0, np.arange(count)
    for row in anchors:
        distances = np.square(scaled - scaled[row]).sum(axis=1)
        nearest = np.argpartition(distances, count - 1)[:count]
        if distances[nearest].max() < tightest:
            tightest, anchor, rows = float(distances[nearest].max()), int(row), nearest
    return anchor, rows
