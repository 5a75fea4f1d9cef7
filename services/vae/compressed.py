"""A dataset with its images compressed: written once into the store, read by the later stages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.data import load_episodes, open_dataset
from common.models import model_of
from common.store import CorruptArtifactError, Room, StoreError
from common.store.files import refusal, replace_atomically
from common.training import configure_torch
from common.training.context import StageContext
from ldcq.config import Config, DataConfig
from ldcq.data.episodes import Episodes, Spaces
from ldcq.data.rewards import relabelled
from ldcq.learning.learner import Stopped
from ldcq.vae.frames import FRAMES_AT_ONCE, Frames

ROWS_AT_ONCE = 1 << 16
ARRAYS = (
    *("observations", "actions", "rewards", "terminations", "truncations", "lengths"),
    "ends_seen",
)


def compress(context: StageContext, version: str, model: Frames, episodes: Episodes) -> None:
    """Writes the dataset as an encoder compresses it, unless it is there.

    Args:
        context: The stage's.
        version: Of the artifact `frames`.
        model: Its encoder.
        episodes: The dataset as it is, with images.

    Raises:
        StoreError: The disk does not take it.
        Stopped: The process is asked to end; nothing was written.
    """
    config, root = context.config, context.store.root
    path, frames = _path(root, version), episodes.frames
    if path.is_file():
        return
    assert frames is not None, "data without images"
    flattening = open_dataset(config.data, root, config.frames).flattening
    rows = len(frames)
    states = np.empty((rows, flattening.size), np.float32)
    for start in range(0, rows, FRAMES_AT_ONCE):
        if context.stop.is_set():
            raise Stopped("asked to stop while compressing frames")
        end = min(start + FRAMES_AT_ONCE, rows)
        block, vectors = frames[start:end], episodes.observations[start:end]
        latents = model.encode(block.reshape(-1, *block.shape[2:]))
        states[start:end] = flattening.join(vectors, latents)
        context.progress.running(end, rows, {}, "compressing frames")
    _write(path, replace(episodes, observations=states))


def ensure_compressed(context: StageContext, version: str) -> None:
    """`compress` by a published encoder, where the compressed dataset is not on this machine.

    Raises:
        DataError: The dataset cannot be read.
        StoreError: The encoder cannot be read, or the disk does not take the data.
        Stopped: The process is asked to end.
    """
    config, root = context.config, context.store.root
    if not _path(root, version).is_file():
        model = model_of(context.store.load(Frames.kind, version), Frames, configure_torch(config))
        episodes = load_episodes(recorded(config), root, config.training.memory, config.frames)
        compress(context, version, model, episodes)


def compressed_episodes(context: StageContext, version: str) -> Episodes:
    """The compressed dataset, which `ensure_compressed` has put on this machine, with the rewards
    that `data.reward` describes.

    Raises:
        CorruptArtifactError: It is damaged.
        StoreError: What does not fit into memory does not fit onto the disk.
    """
    root, config = context.store.root, context.config
    room = Room(root, config.training.memory)
    return relabelled(_read(_path(root, version), room), config.data, room)


def recorded(config: Config) -> DataConfig:
    """The section `data` for what is compressed: with the recorded rewards, so that it is done once
    for all others.
    """
    return config.data if config.frames is None else config.data.model_copy(update={"reward": None})


def _path(root: Path, version: str) -> Path:
    return root / "compressed" / f"{version}.safetensors"


def _write(path: Path, episodes: Episodes) -> None:
    spaces = episodes.spaces
    bounds = {"action_low": spaces.action_low, "action_high": spaces.action_high}
    about = {
        "discrete_actions": spaces.discrete_actions,
        "fingerprint": episodes.fingerprint,
        "name": episodes.name,
        "reference_scores": episodes.reference_scores,
    }
    arrays = {name: np.ascontiguousarray(getattr(episodes, name)) for name in ARRAYS}
    checked = hashlib.sha256()
    for array in arrays.values():
        checked.update(array.data)
    about["sha256"] = checked.hexdigest()
    content = save({**arrays, **bounds}, {"about": json.dumps(about)})
    try:
        path.parent.mkdir(exist_ok=True)
        replace_atomically(path, content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {refusal(error)}") from error


def _read(path: Path, allocate: Room) -> Episodes:
    checked = hashlib.sha256()
    try:
        with safe_open(path, framework="np") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            arrays = {name: _array(file.get_slice(name), allocate, checked) for name in ARRAYS}
            low, high = file.get_tensor("action_low"), file.get_tensor("action_high")
        whole = checked.hexdigest() == about["sha256"]
    except (SafetensorError, OSError, ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise CorruptArtifactError(
            f"{path} is damaged or cut short; delete it and start the stage again, which "
            "compresses the images anew"
        )
    state_dim, action_dim = arrays["observations"].shape[1], arrays["actions"].shape[1]
    scores = about["reference_scores"]
    return Episodes(
        **arrays,
        spaces=Spaces(state_dim, action_dim, about["discrete_actions"], low, high),
        fingerprint=about["fingerprint"],
        name=about["name"],
        reference_scores=scores and (float(scores[0]), float(scores[1])),
    )


def _array(rows: Any, allocate: Room, checked: Any) -> npt.NDArray[Any]:
    """What a slice of a safetensors file holds; `checked` is updated with its bytes."""
    shape = tuple(rows.get_shape())
    array = allocate(shape, rows[:0].dtype)
    for start in range(0, shape[0], ROWS_AT_ONCE):
        end = min(start + ROWS_AT_ONCE, shape[0])
        array[start:end] = block = rows[start:end]
        checked.update(np.ascontiguousarray(block).data)
    return array
