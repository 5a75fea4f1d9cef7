"""The evaluations of several training seeds as rows of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.stages import POLICIES
from common.store import Artifact, Store
from common.store.timings import Timing, lineage_timings
from experiments.aggregate import Floats, hierarchical_bootstrap
from experiments.experiment import Context
from experiments.known import KnownRuns
from experiments.result import PaperValue, Row, Scalar
from ldcq.config import Config, override
from services.actor.scores import (
    episode_returns,
    first_hit_returns,
    first_reward_steps,
    normalise,
)


def run_seeds(context: Context, config: Config, what: str = "") -> Evaluations:
    """Trains and plays a configuration once for every training seed, all from the same starts.

    Args:
        context: The experiment's.
        config: For any seed.
        what: Which of the experiment's configurations it is, for the user.

    Raises:
        Exception: Whatever the pipeline raises.
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

    Args:
        store: Where they are.
        versions: Evaluation of each training seed.

    Raises:
        StoreError: One is not there, or damaged.
    """

    def __init__(self, store: Store, versions: Mapping[int, str]) -> None:
        self._store = store
        self._loaded: dict[int, Artifact] = {
            seed: store.load("evaluation", version) for seed, version in versions.items()
        }
        self.versions = dict(versions)

    @property
    def artifacts(self) -> dict[str, str]:
        """The evaluations' versions, as a page names them."""
        return {f"evaluation, seed {seed}": version for seed, version in self.versions.items()}

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
            for artifact in self._loaded.values()
            for row in _rows(artifact)
            for timing in self._timings(artifact, row).values()
        )

    @property
    def confidence(self) -> float:
        """Coverage of the configured intervals."""
        return float(next(iter(self._loaded.values())).meta.details["confidence"])  # type: ignore[arg-type]

    def row(
        self,
        played: str,
        method: str | None = None,
        settings: Mapping[str, Scalar] | None = None,
        paper: PaperValue | None = None,
    ) -> Row:
        """The scores of one of the methods played.

        Args:
            played: Its name in `evaluation.methods`.
            method: What to call it; None: the same.
            settings: What was varied.
            paper: The paper's number.

        Raises:
            KeyError: It was not played.
            StoreError: A model it was played with is not in the store any more.
        """
        rows = {seed: _row(artifact, played) for seed, artifact in self._loaded.items()}
        sample = next(iter(rows.values()))
        # What the data themselves score is the same for every training seed.
        trained = sample["policy"] != "behaviour"
        artifacts = list(self._loaded.values())[: None if trained else 1]
        played_seed = int(sample["seed"])
        returns = [_returns(artifact, played) for artifact in artifacts]
        hits = [_hits(artifact, played) for artifact in artifacts] if sample["first_hit"] else None
        successes = [float(np.mean(_first_steps(a, played) >= 0)) for a in artifacts]
        seconds = [
            sum(timing.seconds for timing in self._timings(artifact, rows[seed]).values())
            for seed, artifact in self._loaded.items()
        ]
        return Row(
            method or played,
            settings=settings or {},
            episode_return=hierarchical_bootstrap(returns, self.confidence, played_seed),
            first_hit=hierarchical_bootstrap(hits, self.confidence, played_seed) if hits else None,
            success=float(np.mean(successes)) if hits else None,
            episodes=len(returns[0]),
            seeds=len(self._loaded) if trained else 0,
            train_seconds=float(np.mean(seconds)) if trained and all(seconds) else None,
            paper=paper,
        )

    def positions(self, played: str) -> NDArray[np.float32] | None:
        """Where the first training seed's episodes went, shape (E, T + 1, 2); None where the task
        has no map.
        """
        first = next(iter(self._loaded.values()))
        found: NDArray[np.float32] | None = first.tensors.get(f"{played}/positions")
        return found

    def _timings(self, artifact: Artifact, row: Mapping[str, Any]) -> dict[Any, Timing]:
        found: dict[Any, Timing] = {}
        parents, variant = artifact.meta.parents, row["variant"]
        for kind in POLICIES[str(row["policy"])]:
            version = parents.get(f"{kind}.{variant}", parents.get(kind))
            if version is not None:
                found |= lineage_timings(self._store, kind, version)
        return found


def _rows(artifact: Artifact) -> list[Mapping[str, Any]]:
    rows: Any = artifact.meta.details["rows"]
    return list(rows)


def _row(artifact: Artifact, played: str) -> Mapping[str, Any]:
    return next(row for row in _rows(artifact) if row["method"] == played)


def _rewards(artifact: Artifact, played: str) -> list[NDArray[np.floating]]:
    rewards, lengths = (artifact.tensors[f"{played}/{name}"] for name in ("rewards", "lengths"))
    return [row[:length] for row, length in zip(rewards, lengths, strict=True)]


def _first_steps(artifact: Artifact, played: str) -> NDArray[np.int64]:
    return first_reward_steps(_rewards(artifact, played))


def _returns(artifact: Artifact, played: str) -> Floats:
    return normalise(episode_returns(_rewards(artifact, played)), _reference(artifact))


def _hits(artifact: Artifact, played: str) -> Floats:
    limit = artifact.meta.details["max_episode_steps"]
    assert isinstance(limit, int)
    return normalise(first_hit_returns(_first_steps(artifact, played), limit), _reference(artifact))


def _reference(artifact: Artifact) -> tuple[float, float] | None:
    known: Any = artifact.meta.details["reference_scores"]
    return (float(known[0]), float(known[1])) if known else None
