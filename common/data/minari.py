"""Minari datasets on this machine: where they are, what they say of themselves, episodes."""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.data.flattening import (
    Flattening,
    flat_actions,
    flat_spaces,
    flattening,
    joined_goal,
)
from common.data.ogbench import STATES, attempts, task_labels
from common.store.datasets import roots
from ldcq.config import FramesConfig, tasks
from ldcq.data.episodes import (
    Allocate,
    Boolean,
    DataError,
    Episode,
    Episodes,
    Float,
    Spaces,
    join_episodes,
)

if TYPE_CHECKING:
    import gymnasium

logger = logging.getLogger(__name__)

GENERATOR = "ldcq_generator"
"""Metadata key under which a generated dataset records how it was made."""

_D4RL_NAMES = {
    r"maze2d-(umaze|medium|large)-v\d": r"D4RL/pointmaze/\1-v2",
    r"antmaze-(umaze|umaze-diverse|(?:medium|large)-(?:play|diverse))-v\d": r"D4RL/antmaze/\1-v1",
    r"kitchen-(complete|partial|mixed)-v\d": r"D4RL/kitchen/\1-v2",
    r"(door|hammer|pen|relocate)-(human|cloned|expert)-v\d": r"D4RL/\1/\2-v2",
    r"(hopper|walker2d|halfcheetah|ant)-(medium|expert)-v\d": r"mujoco/\1/\2-v0",
}
"""D4RL's names of datasets, and those of their successors in Minari."""

GOAL_EPISODES = 64
"""In which it is looked for the goals of a dataset, at most."""
SHOWN = 5
"""Ids in a message that says which there are."""
CONNECT_SECONDS = 5.0
"""How long the hub may take to answer at all; its client tries again for half a minute."""


class NoEnvironmentError(DataError):
    """Data without anything to play in: models can be trained on them, but not scored."""

    def __init__(self, dataset: str) -> None:
        super().__init__(
            f"evaluation.environment: not given, and {dataset} records none; expected a Gymnasium "
            "id, or module:id of an environment of your own"
        )


def local_datasets(store_root: Path) -> dict[str, Path]:
    """Ids and folders of all datasets on this machine, sorted."""
    found: dict[str, Path] = {}
    for root in roots(store_root):
        for metadata in sorted(root.glob("**/data/metadata.json")):
            folder = metadata.parent.parent
            parts = folder.relative_to(root).parts
            if not any(part.startswith(".") for part in parts):  # still being written
                found.setdefault("/".join(parts), folder)
    return dict(sorted(found.items()))


def download(store_root: Path, dataset: str) -> None:
    """Fetches a dataset into Minari's folder.

    Raises:
        DataError: There is no such dataset, or no connection.
    """
    import minari

    try:
        _reach_hub()
        minari.download_dataset(dataset)
    except Exception as error:  # whatever the remote storage's client raises
        near = minari_name(dataset)
        hint = f". Did you mean {near!r}?" if near else ""
        raise DataError(
            f"data.dataset: {dataset!r} could not be downloaded: {error}; check the name and the "
            f"connection, or put the dataset under {roots(store_root)[1]}{hint}"
        ) from error


def _reach_hub() -> None:
    """One request to the hub that Minari downloads from; raises where it does not answer."""
    if os.environ.get("MINARI_REMOTE", "hf://").startswith("hf://"):
        from huggingface_hub import constants, get_session

        get_session().head(constants.ENDPOINT, timeout=CONNECT_SECONDS)


def unknown_dataset(store_root: Path, dataset: str) -> DataError:
    """The error that says which datasets there are and how to get another."""
    if Path(dataset).expanduser().is_file():
        return DataError(
            f"data.dataset: {dataset!r} is a file, but its name says nothing of its format; "
            "expected one that ends in .hdf5 or .h5 (D4RL's), or in .npz (OGBench's)"
        )
    known = list(local_datasets(store_root))
    close = difflib.get_close_matches(dataset, known, n=1, cutoff=0.5)
    near = close[0] if close else minari_name(dataset)
    hint = f"Did you mean {near!r}? " if near else ""
    if (task := re.sub(r"-v\d+$", "", dataset)) in tasks():
        hint += f"`ldcq run {task}` runs the task of that name. "
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    found = ", ".join(known[:SHOWN]) + more if known else "none"
    places = " and ".join(str(root) for root in roots(store_root))
    return DataError(
        f"data.dataset: no {dataset!r} on this machine. {hint}Found {found} "
        f"(in {places}). `ldcq data ensure CONFIG` fetches it from Minari where the configuration "
        f"has data.download=true, and makes it where that has data.generate; `ldcq data pointmaze` "
        f"makes mazes, `ldcq data generate NAME` data of a task's kind; a file of D4RL or OGBench "
        f"is given by its path"
    )


def minari_name(dataset: str) -> str | None:
    """What Minari calls a dataset of D4RL's name; None where it has none like it."""
    for pattern, name in _D4RL_NAMES.items():
        if re.fullmatch(pattern, dataset):
            return re.sub(pattern, name, dataset)
    return None


@dataclass(frozen=True)
class MinariDataset:
    """A Minari dataset in a folder.

    Attributes:
        folder: It holds `data/metadata.json`.
        observation_keys: Keys of dictionary observations to concatenate; None: all, sorted.
        frames: How images are compressed; None: there may be none.
        task: Gymnasium id of a single-task environment of OGBench, whose rewards are told from the
            simulator's states in `infos`; None: those recorded.
    """

    folder: Path
    observation_keys: tuple[str, ...] | None = None
    frames: FramesConfig | None = None
    task: str | None = None

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """What the dataset says of itself, as in its JSON file.

        Raises:
            DataError: The file cannot be read.
        """
        path = self.folder / "data" / "metadata.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a Minari dataset's metadata ({error})") from error

    @property
    def name(self) -> str:
        """The dataset's id."""
        return str(self.metadata.get("dataset_id", self.folder.name))

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Returns that score 0 and 100, if recorded.

        Raises:
            DataError: They are no two different numbers.
        """
        given = [self.metadata.get(f"ref_{end}_score") for end in ("min", "max")]
        if None in given:
            return None
        try:
            low, high = (float(score) for score in given if score is not None)
        except (TypeError, ValueError):
            low = high = math.nan
        if not math.isfinite(low) or not math.isfinite(high) or low == high:
            raise DataError(
                f"{self.name}: its metadata say ref_min_score and ref_max_score {given}, expected "
                "two different numbers, or none"
            )
        return low, high

    @cached_property
    def flattening(self) -> Flattening:
        """How its observations become states."""
        space = self._dataset.observation_space
        return flattening(space, self.observation_keys, self.name, self.frames)

    @cached_property
    def spaces(self) -> Spaces:
        """Of its flattened states and actions, and of its images."""
        return flat_spaces(self.flattening, self._dataset.action_space, self.name)

    def make_environment(
        self, render_mode: str | None = None, **settings: Any
    ) -> gymnasium.Env[Any, Any]:
        """The environment recorded for evaluation, or that of the data if there is no other, made
        with `settings` beside or instead of those recorded.

        Raises:
            NoEnvironmentError: None is recorded.
            DataError: What it needs is not installed, or it takes other settings.
        """
        specs = [self.metadata.get(key) for key in ("eval_env_spec", "env_spec")]
        spec = next((str(spec) for spec in specs if spec), None)
        if spec is None:
            raise NoEnvironmentError(self.name)
        from common.data.environments import register_robotics

        register_robotics()
        try:
            recover = self._dataset.recover_environment
            environment: gymnasium.Env[Any, Any] = recover(
                eval_env=True, render_mode=render_mode, **settings
            )
        except Exception as error:  # whatever the environment's own constructor raises
            needs = ", ".join(map(str, self.metadata.get("requirements") or ()))
            raise DataError(
                f"evaluation.environment: {_id(spec)!r}, which {self.name} records, cannot be made"
                f"{f' with {settings}' if settings else ''} ({error}); install "
                f"{needs or 'what it needs'}, or set evaluation.environment to another id"
            ) from error
        return environment

    def goals(self, most: int = GOAL_EPISODES) -> Float | None:
        """The different values of `desired_goal` in some of the episodes, spread evenly, at most so
        many; parts are joined as in the environment's. None: observations have none.

        Returns:
            Shape (K, G).
        """
        if "desired_goal" not in getattr(self._dataset.observation_space, "spaces", {}):
            return None
        ids = np.unique(np.linspace(0, int(self._dataset.total_episodes) - 1, most).astype(int))
        found = [
            np.unique(joined_goal(part.observations["desired_goal"], len(part.rewards) + 1), axis=0)
            for part in self._dataset.iterate_episodes(ids)
        ]
        return np.unique(np.concatenate(found), axis=0)

    def read(self, allocate: Allocate = np.empty) -> Episodes:
        """All episodes, in arrays that `allocate` makes. Actions outside the space that the dataset
        records are a warning.

        Raises:
            DataError: The files cannot be read, an array does not fit its episode, a value is not
                finite, or what tells the rewards of `task` is not there.
        """
        most = int(self._dataset.total_episodes), int(self._dataset.total_steps)
        try:
            parts: Iterable[Episode] = self._parts()
            if self.task is not None:
                labels = self._labels(self.task)
                most = sum(len([*attempts(going)]) for _, going in labels), most[1]
                parts = _attempts(parts, labels)
            episodes = join_episodes(
                parts, self.spaces, self.name, self.reference_scores, most=most, allocate=allocate
            )
        except (OSError, KeyError) as error:
            raise DataError(f"{self.folder}: cannot be read ({error})") from error
        rows, excess = episodes.actions_outside
        if rows:
            logger.warning(
                "%s: %d of %d actions are outside the dataset's own action space, by up to %.3g",
                *(self.name, rows, len(episodes.actions), excess),
            )
        return episodes

    def _parts(self) -> Iterator[Episode]:
        for episode in self._dataset.iterate_episodes():
            if len(episode.rewards):
                yield Episode(
                    self.flattening.vectors(episode.observations),
                    flat_actions(episode.actions, self.spaces),
                    np.asarray(episode.rewards).reshape(len(episode.rewards)),
                    np.asarray(episode.terminations),
                    np.asarray(episode.truncations),
                    frames=self.flattening.frames(episode.observations)
                    if self.spaces.frames
                    else None,
                )

    def _labels(self, task: str) -> list[tuple[Float, Boolean]]:
        """Rewards of the steps of each episode, and whether the task was still to be done."""
        infos = [
            (len(episode.rewards), episode.infos or {})
            for episode in self._dataset.iterate_episodes()
            if len(episode.rewards)
        ]
        states = {
            key: np.concatenate([info[key][:steps] for steps, info in infos])
            for key in STATES
            if all(key in info for _, info in infos)
        }
        labels = task_labels(task, states, self.name)
        ends = np.cumsum([steps for steps, _ in infos])[:-1]
        rewards, going = np.split(labels["rewards"], ends), np.split(labels["masks"] != 0, ends)
        return list(zip(rewards, going, strict=True))

    @cached_property
    def _dataset(self) -> Any:
        import minari

        try:
            return minari.MinariDataset(self.folder / "data")
        except (OSError, ValueError, KeyError, AssertionError) as error:
            raise DataError(f"{self.name}: cannot be opened in {self.folder} ({error})") from error


def _attempts(
    episodes: Iterable[Episode], labels: Iterable[tuple[Float, Boolean]]
) -> Iterator[Episode]:
    """Episodes with rewards of a task, cut where it is done."""
    for episode, (rewards, going) in zip(episodes, labels, strict=True):
        for part in attempts(going):
            last = np.arange(part.start, part.stop) == part.stop - 1
            seen = slice(part.start, part.stop + 1)
            yield Episode(
                episode.observations[seen],
                episode.actions[part],
                rewards[part],
                last & ~going[part],
                last & going[part],
                frames=None if episode.frames is None else episode.frames[seen],
            )


def _id(spec: str) -> str:
    """Of an environment's recorded specification."""
    try:
        return str(json.loads(spec)["id"])
    except (ValueError, KeyError, TypeError):
        return spec
