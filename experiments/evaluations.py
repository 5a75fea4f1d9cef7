"""The evaluations of several training seeds as rows of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.stages import POLICIES
from common.store import Artifact, Store
from common.store.timings import Timing, lineage_timings
from experiments.experiment import Context, PaperValue, Row, Scalar
from experiments.known import KnownRuns
from ldcq.config import Config, override
from services.actor.scores import (
    RESAMPLES,
    Estimate,
    episode_returns,
    first_hit_returns,
    first_reward_steps,
    normalise,
)

Floats = NDArray[np.float64]


def run_seeds(context: Context, config: Config, what: str = "") -> Evaluations:
    """Trains and plays a configuration once for every training seed, all from the same starts.

    `what` tells the user which of the experiment's configurations it is. Raises what the pipeline
    raises.
    """
    versions, known = {}, KnownRuns(context.store)
    for number, seed in enumerate(context.seeds, start=1):
        label = f"training seed {seed} ({number} of {len(context.seeds)})"
        context.pipeline.say(f"{what}, {label}" if what else label)
        seeded = override(config, {"seed": seed})
        found = known.find(seeded)
        if found is None:
            found = context.pipeline.run(seeded)
            known.add(seeded, found)
        versions[seed] = found
    return Evaluations(context.store, versions)


class Evaluations:
    """The evaluations of one configuration with several training seeds.

    Raises:
        StoreError: One is not there, or damaged.
    """

    def __init__(self, store: Store, versions: Mapping[int, str]) -> None:
        self._store = store
        self._loaded = [store.load("evaluation", version) for version in versions.values()]
        self._details: Mapping[str, Any] = self._loaded[0].meta.details
        self.artifacts = {f"evaluation, seed {seed}": at for seed, at in versions.items()}
        """The evaluations' versions, as a page names them."""

    @property
    def notes(self) -> list[str]:
        """What a reader has to know about the times."""
        killed = (
            "A training process was killed outright on the way, and what it had worked on until "
            "then is missing in the times."
        )
        return [killed] if self.lost else []

    @property
    def lost(self) -> bool:
        """Whether a process that trained was killed before it could say how long it had worked."""
        return any(
            timing.lost
            for artifact in self._loaded
            for row in _rows(artifact).values()
            for timing in self._timings(artifact, row).values()
        )

    def row(
        self,
        played: str,
        method: str | None = None,
        settings: Mapping[str, Scalar] | None = None,
        paper: PaperValue | None = None,
    ) -> Row:
        """The scores of one of the methods played, by its name in `evaluation.methods`; `method` is
        what to call it instead.

        Raises:
            KeyError: It was not played.
            StoreError: A model it was played with is not in the store any more.
        """
        rows = [_rows(artifact)[played] for artifact in self._loaded]
        # What the data themselves score is the same for every training seed.
        trained = rows[0]["policy"] != "behaviour"
        scored = self._loaded if trained else self._loaded[:1]
        rewards = [_rewards(artifact, played) for artifact in scored]
        hits = [first_reward_steps(of_seed) for of_seed in rewards] if rows[0]["first_hit"] else []
        limit = self._details["max_episode_steps"]
        seconds = [
            sum(timing.seconds for timing in self._timings(artifact, row).values())
            for artifact, row in zip(self._loaded, rows, strict=True)
        ]

        def estimate(values: Sequence[Floats]) -> Estimate:
            scores = [normalise(of_seed, self._details["reference_scores"]) for of_seed in values]
            confidence = float(self._details["confidence"])
            return hierarchical_bootstrap(scores, confidence, int(rows[0]["seed"]))

        return Row(
            method or played,
            settings=settings or {},
            episode_return=estimate([episode_returns(of_seed) for of_seed in rewards]),
            first_hit=estimate([first_hit_returns(s, limit) for s in hits]) if hits else None,
            success=float(np.mean([np.mean(s >= 0) for s in hits])) if hits else None,
            episodes=len(rewards[0]),
            seeds=len(self._loaded) if trained else 0,
            train_seconds=float(np.mean(seconds)) if trained and all(seconds) else None,
            paper=paper,
        )

    def positions(self, played: str) -> NDArray[np.float32] | None:
        """Where the first training seed's episodes went, shape (E, T + 1, 2); None where the task
        has no map.
        """
        return self._loaded[0].tensors.get(f"{played}/positions")

    def _timings(self, artifact: Artifact, row: Mapping[str, Any]) -> dict[Any, Timing]:
        found: dict[Any, Timing] = {}
        parents, variant = artifact.meta.parents, row["variant"]
        for kind in POLICIES[str(row["policy"])]:
            version = parents.get(f"{kind}.{variant}", parents.get(kind))
            if version is not None:
                found |= lineage_timings(self._store, kind, version)
        return found


def _rows(artifact: Artifact) -> dict[str, Mapping[str, Any]]:
    rows: Any = artifact.meta.details["rows"]
    return {row["method"]: row for row in rows}


def _rewards(artifact: Artifact, played: str) -> list[NDArray[np.floating]]:
    rewards, lengths = (artifact.tensors[f"{played}/{name}"] for name in ("rewards", "lengths"))
    return [row[:length] for row, length in zip(rewards, lengths, strict=True)]


def hierarchical_bootstrap(values: Sequence[Floats], confidence: float, seed: int) -> Estimate:
    """Percentile bootstrap of a mean over training seeds and, inside them, episodes.

    Every resample draws seeds with replacement and then episodes with replacement. Episode i of
    every training seed has the same start, and a hard start is hard for all: episodes are drawn
    once for all seeds of a resample. With few seeds the interval is a little short: K draws of K
    seeds vary by (K - 1) / K of what seeds do.

    Args:
        values: One value per episode for every training seed, (E,) each.
        confidence: Coverage asked for, such as 0.95.
        seed: Seed of the resampling.

    Returns:
        The mean of the seeds' means and its interval; one seed gives the interval over episodes.

    Raises:
        ValueError: No seed, a seed without episodes, or unequal counts.
    """
    counts = {len(episodes) for episodes in values}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"episodes per training seed are {[len(v) for v in values]}, expected equal numbers, "
            "at least 1 each"
        )
    generator = np.random.default_rng(seed)
    seeds = generator.integers(len(values), size=(RESAMPLES, len(values)))
    table = np.stack(values)
    picks = generator.integers(table.shape[1], size=(RESAMPLES, table.shape[1]))
    # Column by column, a mean over the drawn seeds' weights: no (resamples, K, E) array.
    weights = np.stack([(seeds == k).mean(axis=1) for k in range(len(values))], axis=1)
    per_seed = np.stack([row[picks].mean(axis=1) for row in table], axis=1)
    means = (weights * per_seed).sum(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    mean = float(np.mean([episodes.mean() for episodes in values]))
    return Estimate(mean, float(low), float(high))
