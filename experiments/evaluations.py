"""The evaluations of several training seeds as rows of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.stages import executed_kinds
from common.store import Artifact, Store
from common.store.timings import Timing, lineage_timings
from experiments.experiment import Context, Difference, PaperValue, Row, Scalar
from experiments.intervals import over_seeds
from experiments.known import KnownRuns
from ldcq.config import Config, override, resolve_variant
from services.actor.report.wording import method_label
from services.actor.scores import (
    Estimate,
    episode_returns,
    first_hit_returns,
    first_reward_steps,
    normalise,
    successes,
)

Floats = NDArray[np.float64]
Rewards = list[NDArray[np.floating]]
"""Of a method's episodes with one training seed, shapes (T_i,)."""


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
    return Evaluations(context.store, config, versions)


class Evaluations:
    """The evaluations of one configuration with several training seeds.

    Args:
        store: Has them.
        config: What was played, of any seed.
        versions: By training seed.

    Raises:
        StoreError: One is not there, or damaged.
    """

    def __init__(self, store: Store, config: Config, versions: Mapping[int, str]) -> None:
        self._store, self._config = store, config
        self._loaded = [store.load("evaluation", version) for version in versions.values()]
        self._details: Mapping[str, Any] = self._loaded[0].meta.details
        self._seed = int(next(iter(_rows(self._loaded[0]).values()))["seed"])
        self.artifacts = {f"evaluation, seed {seed}": at for seed, at in versions.items()}
        """The evaluations' versions, as a page names them."""

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
        estimate, first_hit = self._estimate, rows[0]["first_hit"]
        found = [_successes(artifact, played) for artifact in scored]
        done = [of_seed for of_seed in found if of_seed is not None]
        by_success = done and rows[0].get("success_score")
        seconds = [
            sum(timing.seconds for timing in self._timings(artifact, row).values())
            for artifact, row in zip(self._loaded, rows, strict=True)
        ]
        return Row(
            method or played,
            settings={**(settings or {}), **self._sampling(rows[0])},
            episode_return=estimate(map(self._returns, rewards)),
            first_hit=estimate(map(self._first_hits, rewards)) if first_hit else None,
            success=float(np.mean(done)) if done else None,
            success_score=estimate([100.0 * each for each in done]) if by_success else None,
            episodes=len(rewards[0]),
            seeds=len(self._loaded) if trained else 0,
            train_seconds=float(np.mean(seconds)) if trained and all(seconds) else None,
            paper=paper,
        )

    def by_seed(self, *methods: str) -> str:
        """What methods scored with every training seed, in a sentence of each."""
        sentences = []
        for played in methods:
            found = []
            for artifact in self._loaded:
                rewards = _rewards(artifact, played)
                done = _successes(artifact, played)
                scored = f"{self._returns(rewards).mean():.1f}"
                if _rows(artifact)[played]["first_hit"] and done is not None:
                    scored += f" / {self._first_hits(rewards).mean():.1f} / {done.mean():.2f}"
                found.append(scored)
            sentences.append(
                f"{method_label(played)}, return / first hit / success by training seed: "
                f"{', '.join(found)}."
            )
        return " ".join(sentences)

    def difference(
        self, first: str, second: str, settings: Mapping[str, Scalar] | None = None
    ) -> Difference:
        """What `first` scores more than `second`, paired by training seed and start.

        Raises:
            KeyError: One was not played.
        """
        rewards = [
            (_rewards(artifact, first), _rewards(artifact, second)) for artifact in self._loaded
        ]

        def estimate(score: Callable[[Rewards], Floats]) -> Estimate:
            return self._estimate(score(ours) - score(theirs) for ours, theirs in rewards)

        scored = _rows(self._loaded[0])[first]
        return Difference(
            first,
            second,
            settings=settings or {},
            episode_return=estimate(self._returns),
            first_hit=estimate(self._first_hits) if scored["first_hit"] else None,
            success_score=self._success_difference(first, second)
            if scored.get("success_score")
            else None,
        )

    def _success_difference(self, first: str, second: str) -> Estimate | None:
        found = [
            (_successes(artifact, first), _successes(artifact, second)) for artifact in self._loaded
        ]
        return self._estimate(
            100.0 * (ours - theirs)
            for ours, theirs in found
            if ours is not None and theirs is not None
        )

    def positions(self, played: str) -> NDArray[np.float32] | None:
        """Where the first training seed's episodes went, shape (E, T + 1, 2); None where the task
        has no map.
        """
        return self._loaded[0].tensors.get(f"{played}/positions")

    def _returns(self, rewards: Rewards) -> Floats:
        return normalise(episode_returns(rewards), self._details["reference_scores"])

    def _first_hits(self, rewards: Rewards) -> Floats:
        steps, limit = first_reward_steps(rewards), self._details["max_episode_steps"]
        return normalise(first_hit_returns(steps, limit), self._details["reference_scores"])

    def _estimate(self, values: Iterable[Floats]) -> Estimate:
        return over_seeds(list(values), float(self._details["confidence"]), self._seed)

    def _sampling(self, row: Mapping[str, Any]) -> dict[str, Scalar]:
        """Candidates and temperature that a method acts with; None where it asks no prior."""
        if row["candidates"] is None:
            return {"candidates": None, "temperature": None}
        config = resolve_variant(self._config, row["variant"])
        asked, own = config.actor.sampling.temperature, config.prior.sampling.temperature
        temperature = next((known for known in (asked, own) if known is not None), 1.0)
        return {"candidates": row["candidates"], "temperature": temperature}

    def _timings(self, artifact: Artifact, row: Mapping[str, Any]) -> dict[Any, Timing]:
        found: dict[Any, Timing] = {}
        parents, variant = artifact.meta.parents, row["variant"]
        for kind in executed_kinds(row["policy"], resolve_variant(self._config, variant)):
            version = parents.get(f"{kind}.{variant}", parents.get(kind))
            if version is not None:
                found |= lineage_timings(self._store, kind, version)
        return found


def _rows(artifact: Artifact) -> dict[str, Mapping[str, Any]]:
    rows: Any = artifact.meta.details["rows"]
    return {row["method"]: row for row in rows}


def _successes(artifact: Artifact, played: str) -> Floats | None:
    """1 where an episode succeeded, else 0, (E,); None where that is unknown."""
    said, row = artifact.tensors.get(f"{played}/success"), _rows(artifact)[played]
    done = successes(said, _rewards(artifact, played), bool(row["first_hit"]))
    return None if done is None else done.astype(np.float64)


def _rewards(artifact: Artifact, played: str) -> Rewards:
    rewards, lengths = (artifact.tensors[f"{played}/{name}"] for name in ("rewards", "lengths"))
    return [row[:length] for row, length in zip(rewards, lengths, strict=True)]
