"""Writes a Minari dataset so that nobody sees half of one: into a hidden folder, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import DataError

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

Array = npt.NDArray[Any]
WRITING = ".writing-"
"""How the folder of a dataset that is being written begins."""


@dataclass(frozen=True)
class EpisodeArrays:
    """One episode as it is stored: T + 1 observations and infos, T of everything else."""

    observations: Array | Mapping[str, Array]
    actions: Array
    rewards: npt.NDArray[np.float64]
    terminations: npt.NDArray[np.bool_]
    truncations: npt.NDArray[np.bool_]
    infos: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Recording:
    """Episodes, and what a dataset of them says about itself.

    Attributes:
        episodes: In the order in which they are written; used once.
        environment: Its spaces are those of the episodes.
        evaluation_spec: Recorded as the environment of the data and of the evaluation.
        metadata: Further entries, such as `ref_min_score` and `ref_max_score`.
    """

    episodes: Iterable[EpisodeArrays]
    environment: gymnasium.Env[Any, Any]
    evaluation_spec: EnvSpec
    metadata: Mapping[str, Any]


def write_minari(root: Path, dataset: str, recording: Recording) -> bool:
    """Writes a dataset of Minari id `namespace/name-v0` under `root/<dataset>`.

    Returns:
        False if somebody else wrote it meanwhile; theirs is kept.

    Raises:
        DataError: The id is not valid, or the folder cannot be written.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    check_dataset_id(dataset)
    root = root.absolute()  # Minari joins a relative path to itself
    target, evaluation_spec = root / dataset, recording.evaluation_spec
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=WRITING, dir=root))
    except OSError as error:
        raise DataError(f"{root}: cannot be written ({error.strerror})") from error
    try:
        storage = MinariStorage.new(
            temporary / "data",
            observation_space=recording.environment.observation_space,
            action_space=recording.environment.action_space,
            env_spec=evaluation_spec,
            data_format="hdf5",
            jpeg_encoding=False,  # lossy: an environment does not show such pictures
        )
        written = {"dataset_id": dataset, "minari_version": minari.__version__}
        spec = {"eval_env_spec": evaluation_spec.to_json()}
        storage.update_metadata({**written, **recording.metadata, **spec})
        storage.update_episodes(EpisodeBuffer(**vars(episode)) for episode in recording.episodes)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o755)
        try:
            temporary.rename(target)
        except OSError:
            if not (target / "data" / "metadata.json").is_file():
                raise
            return False
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def check_dataset_id(dataset: str) -> None:
    """Raises DataError unless `dataset` is a Minari id with a version."""
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(dataset)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"data.dataset: {dataset!r} is not a dataset id of Minari's ({error}); expected "
            "namespace/name-v0, with a namespace of two letters or more"
        ) from error
