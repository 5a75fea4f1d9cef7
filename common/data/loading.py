"""From a configuration to episodes: finds, downloads or generates the dataset, and reads it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from common.data.hdf5 import Hdf5File
from common.data.minari import GENERATOR, MinariDataset, download, unknown_dataset
from common.data.minari_writing import WRITING, Recording, check_dataset_id, write_minari
from common.data.npz import NpzFile
from common.store import Room, StoreError, digest
from common.store.datasets import (
    UnreadDataError,
    dataset_path,
    keep_fingerprint,
    known_fingerprint,
    stamp,
)
from common.store.files import WriterLock
from ldcq.config import DataConfig, FramesConfig, Generate, PolicyConfig
from ldcq.config.reward import OgbenchReward
from ldcq.data.episodes import DataError, Episodes
from ldcq.data.rewards import relabelled

logger = logging.getLogger(__name__)
STEP_BYTES = {"pointmaze": 512, "random_walk": 512, "car_racing": 16_000}
"""Of a generated step on disk, at most."""
PLAYED_STEP_BYTES = 2048
"""Of a step that another player made: it is there twice until the dataset is written."""
PARTS = ".parts-"
"""How the folder begins that holds the finished episodes of a dataset which is being generated."""


def open_dataset(
    config: DataConfig, store_root: Path, frames: FramesConfig | None = None
) -> MinariDataset | Hdf5File | NpzFile:
    """Finds the dataset without reading its episodes; downloads it if `config.download` says so.
    Generated datasets are in the store's folder `datasets`. It may hold images where `frames` says
    how they are compressed.

    Raises:
        DataError: It is not on this machine, or the download failed.
    """
    if "://" in config.dataset:
        raise DataError(
            f"data.dataset: {config.dataset!r} is an address; expected a Minari id, or the path of "
            "a D4RL file: download it first"
        )
    path = Path(config.dataset).expanduser()
    if config.is_file and not path.is_file():
        raise DataError(
            f"data.dataset: no file {path}; expected a file of D4RL (HDF5) or OGBench (npz) there; "
            "`ldcq tasks NAME` says where those of a task can be had"
        )
    if config.is_file and path.suffix.lower() != ".npz":
        return Hdf5File(path, frames, config.episode_steps)
    if config.episode_steps is not None:
        raise DataError(
            f"data.episode_steps: got {config.episode_steps} for {config.dataset!r}; expected "
            "none, as Minari datasets and OGBench's files record their episodes"
        )
    task = config.reward.task if isinstance(config.reward, OgbenchReward) else None
    if config.is_file:
        return NpzFile(path, frames, task)
    folder = dataset_path(store_root, config.dataset)
    if folder is None and config.download:
        logger.info("downloading %s", config.dataset)
        download(store_root, config.dataset)
        folder = dataset_path(store_root, config.dataset)
    if folder is None:
        raise unknown_dataset(store_root, config.dataset)
    return MinariDataset(folder, config.observation_keys, frames, task)


def is_on_this_machine(config: DataConfig, store_root: Path) -> bool:
    """Whether the dataset can be read without downloading or generating anything."""
    return stamp(config, store_root) is not None


def load_episodes(
    config: DataConfig,
    store_root: Path,
    memory: int | None = None,
    frames: FramesConfig | None = None,
) -> Episodes:
    """Reads and checks all episodes, with the rewards that `config.reward` describes; what exceeds
    `memory` MiB (`training.memory`) is kept on the store's disk. Their fingerprint, which is that
    of what was recorded, is kept in the store. Images are as they are, beside the observations;
    without `frames` there may be none.

    Raises:
        DataError: It is not on this machine, cannot be read, or holds values that are not finite;
            no step has a reward by `config.reward`.
        StoreError: The disk does not take them.
    """
    dataset = open_dataset(config, store_root, frames)
    files, room = stamp(config, store_root), Room(store_root, memory)
    episodes = dataset.read(room)
    keep_fingerprint(config, store_root, files, episodes.fingerprint)
    episodes = relabelled(episodes, config, room)
    sizes = episodes.count, len(episodes.rewards), episodes.spaces.describe()
    logger.info("%s: %d episodes, %d steps, %s", episodes.name, *sizes)
    return episodes


def fingerprint(
    config: DataConfig,
    store_root: Path,
    memory: int | None = None,
    frames: FramesConfig | None = None,
) -> str | None:
    """The fingerprint of the dataset as it is now, which is read where that is unknown; None where
    it is not on this machine. Raises as `load_episodes`.
    """
    try:
        known = known_fingerprint(config, store_root)
    except UnreadDataError:
        known = None
    if known is not None or not is_on_this_machine(config, store_root):
        return known
    return load_episodes(config, store_root, memory, frames).fingerprint


def ensure_dataset(
    config: DataConfig,
    store_root: Path,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> bool:
    """Generates the dataset into the store's folder `datasets` if `config.generate` says how and it
    is not on this machine, or waits for the process that is doing so.

    Args:
        config: Of the data.
        store_root: The store's folder.
        on_progress: Called now and then with the steps made and the steps wanted.

    Returns:
        Whether it was generated now.

    Raises:
        DataError: A dataset of that id was generated in another way, the id is not a valid one, the
            simulator is missing, or the folder cannot be written.
    """
    wanted = config.generate
    if wanted is None:
        return False
    lock = _only_generator(store_root, lambda: on_progress(0, wanted.steps))
    try:
        folder = dataset_path(store_root, config.dataset)
        if folder is not None:
            _check_generated_so(wanted, folder, config.dataset)
            return False
        check_dataset_id(config.dataset)
        for left in (store_root / "datasets").glob(f"{WRITING}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        _check_room(store_root, wanted)
        said = wanted.model_dump(mode="json")
        # Of these policies' content: what another one played is no part of it.
        deciding: list[JsonValue] = [config.dataset, _of_names(said), _players(wanted)]
        parts = store_root / "datasets" / f"{PARTS}{digest(deciding)}"
        recording = _record(wanted, parts, on_progress)
        recording = replace(recording, metadata={GENERATOR: said, **recording.metadata})
        written = write_minari(store_root / "datasets", config.dataset, recording)
        shutil.rmtree(parts, ignore_errors=True)
        return written
    finally:
        lock.release()


def _record(wanted: Generate, parts: Path, on_progress: Callable[[int, int], None]) -> Recording:
    """What is imported here needs Gymnasium, Minari and a simulator."""
    from common.generators.playing import played

    match wanted.kind:
        case "random_walk":
            from common.data import random_walk

            return random_walk.record(wanted, on_progress)
        case "pointmaze":
            from common.data import pointmaze

            return pointmaze.record(wanted, on_progress)
        case "ogbench_play":
            from common.generators.ogbench_play import ScriptedPlay

            return played(ScriptedPlay, wanted, parts, on_progress)
        case "ant_maze":
            from common.generators.ant_maze import AntNavigation

            return played(AntNavigation, wanted, parts, on_progress)
        case "car_racing":
            from common.generators.car_racing import ScriptedDriver

            return played(ScriptedDriver, wanted, parts, on_progress)
        case "policy":
            from common.generators.policies import PolicyPlayer

            return played(PolicyPlayer, wanted, parts, on_progress)


def _only_generator(store_root: Path, on_wait: Callable[[], None]) -> WriterLock:
    """Several stages may need the data at once: one makes them and the others wait for it."""
    while True:
        try:
            return WriterLock(store_root / ".datasets.lock", "the dataset")
        except StoreError:
            on_wait()
            time.sleep(0.2)


def _check_room(store_root: Path, wanted: Generate) -> None:
    """HDF5 ends the whole process where the disk is full."""
    one = STEP_BYTES.get(wanted.kind, PLAYED_STEP_BYTES)
    if wanted.kind == "pointmaze" and wanted.pixels:
        one += 3 * wanted.pixels**2
    steps, free = wanted.steps, shutil.disk_usage(store_root).free
    needed = steps * one
    if free < needed:
        raise DataError(
            f"data.generate: {store_root} has {free / 1e6:.1f} MB free, expected "
            f"{needed / 1e6:.1f} MB for {steps} steps; free space on that disk, or choose another "
            "--store"
        )


def _check_generated_so(wanted: Generate, folder: Path, dataset: str) -> None:
    metadata = MinariDataset(folder).metadata
    made = metadata.get(GENERATOR)
    if made is None:
        return
    if not isinstance(made, dict):
        raise DataError(f"{folder}: its metadata say {GENERATOR} {made!r}, expected a section")
    # What an older record does not say yet has its default value.
    fields = type(wanted).model_fields.items()
    defaults = {name: field.default for name, field in fields if not field.is_required()}
    complete = {**defaults, "kind": "pointmaze"} | made
    expected = wanted.model_dump(mode="json")
    alike = _of_names({key: complete.get(key) for key in expected}) == _of_names(expected)
    if not alike or not _played_by(wanted, str(metadata.get("description"))):
        raise DataError(
            f"data.generate: {dataset} in {folder} was generated with {made} "
            f"({metadata.get('description')}), expected {expected}; choose another data.dataset, "
            "or delete that folder"
        )


def _of_names(generate: dict[str, Any]) -> dict[str, Any]:
    """With the names alone of policies' files, which may lie anywhere."""
    policies = [
        {**each, "file": Path(each["file"] or "").name} for each in generate.get("policies", ())
    ]
    return {**generate, "policies": policies}


def _played_by(wanted: Generate, description: str) -> bool:
    """Whether the policies that are wanted have the content of those that played; where their files
    are not here, their names have to do.
    """
    return _players(wanted) in (None, description)


def _players(wanted: Generate) -> str | None:
    """Names and content of the policies that play, as a dataset records them; None where no policy
    does, or a file is not here.
    """
    if not isinstance(wanted, PolicyConfig):
        return None
    from common.generators.policies import described

    try:
        return described(policy.file or "" for policy in wanted.policies)
    except OSError:
        return None
