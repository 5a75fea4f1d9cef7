"""Human demonstrations of AdroitHandDoor to a Minari dataset, re-simulated as by D4RL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.archive import read_archive
from common.data.flat_environment import make_registered
from common.data.minari_writing import EpisodeArrays, Recording, check_dataset_id, write_minari
from ldcq.data.episodes import DataError

REFERENCE_SCORES = (-56.512833, 2880.5693087298737)
"""D4RL's returns of door-human that score 0 and 100."""
ENVIRONMENT = "AdroitHandDoor-v1"
REQUIRED = ("actions", "lengths", "init_qpos", "init_qvel", "door_body_pos")
MAX_STEPS = 400
"""Time limit while re-simulating; the longest demonstration has 300 steps."""
Arrays = dict[str, npt.NDArray[Any]]


def write_door_demonstrations(
    file: Path,
    dataset: str,
    store_root: Path,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> bool:
    """Replays every demonstration's actions from its start and stores what the environment says.

    Args:
        file: NumPy archive of hand_dapg's door demonstrations: flat `actions` (M, 28),
            `lengths` (E,) and the starts `init_qpos`, `init_qvel` and `door_body_pos` (E, .).
        dataset: Minari id to write it under, in the store's folder `datasets`.
        store_root: The store.
        on_progress: Called with the demonstrations done and all of them.

    Returns:
        False if another process wrote it meanwhile.

    Raises:
        DataError: The file is not such an archive, or the simulator is not installed.
    """
    check_dataset_id(dataset)
    demonstrations = _load(file)
    environment = make_registered(ENVIRONMENT, None, max_episode_steps=MAX_STEPS)
    evaluation = make_registered(ENVIRONMENT, None)
    try:
        if evaluation.spec is None:
            raise DataError(f"{ENVIRONMENT}: has no spec; expected a registered environment")
        metadata = {
            "algorithm_name": "human demonstrations",
            "description": "Human demonstrations of opening a door (hand_dapg), re-simulated.",
            "ref_min_score": REFERENCE_SCORES[0],
            "ref_max_score": REFERENCE_SCORES[1],
        }
        episodes = _replay(environment, demonstrations, on_progress)
        recording = Recording(episodes, environment, evaluation.spec, metadata)
        return write_minari(store_root / "datasets", dataset, recording)
    finally:
        environment.close()
        evaluation.close()


def _load(file: Path) -> Arrays:
    given = read_archive(file, REQUIRED)
    missing = [key for key in REQUIRED if key not in given]
    if missing:
        raise DataError(
            f"{file}: no {', '.join(missing)}; expected {', '.join(REQUIRED)}, found "
            f"{', '.join(given) or 'none of them'}"
        )
    for key, values in given.items():
        numbers = values.dtype.kind in ("iu" if key == "lengths" else "fiu")
        if not numbers or not np.isfinite(values).all():
            kind = "whole numbers" if key == "lengths" else "finite numbers"
            raise DataError(f"{file}: {key} are not {kind}, expected {kind}")
    lengths = given["lengths"]
    if lengths.ndim != 1 or not len(lengths) or lengths.min() < 1:
        raise DataError(f"{file}: lengths are {lengths}, expected the steps of each, at least 1")
    rows = {"actions": int(lengths.sum()), **dict.fromkeys(REQUIRED[2:], len(lengths))}
    for key, wanted in rows.items():
        if given[key].ndim != 2 or len(given[key]) != wanted:
            raise DataError(
                f"{file}: {key} have shape {given[key].shape}, expected {wanted} rows as lengths "
                "say"
            )
    return given


def _replay(
    environment: Any, demonstrations: Arrays, on_progress: Callable[[int, int], None]
) -> Iterator[EpisodeArrays]:
    lengths = demonstrations["lengths"]
    ends = np.cumsum(lengths)
    for index, end in enumerate(ends):
        actions = demonstrations["actions"][end - lengths[index] : end]
        start = {
            key.removeprefix("init_"): demonstrations[key][index].astype(np.float64)
            for key in ("init_qpos", "init_qvel", "door_body_pos")
        }
        # 5.6 % of the recorded action entries lie outside the actuators' range.
        clipped = np.clip(actions, -1.0, 1.0).astype(np.float32)
        yield _episode(environment, start, clipped)
        on_progress(index + 1, len(ends))


def _episode(environment: Any, start: Arrays, actions: npt.NDArray[np.float32]) -> EpisodeArrays:
    observation, _ = environment.reset(seed=0, options={"initial_state_dict": start})
    observations, rewards = [observation], []
    for action in actions:
        observation, reward, *_ = environment.step(action)
        observations.append(observation)
        rewards.append(float(np.asarray(reward).reshape(())))
    last = np.arange(len(actions)) == len(actions) - 1
    return EpisodeArrays(
        np.asarray(observations), actions, np.asarray(rewards), np.zeros_like(last), last
    )
