"""Observations and actions to flat vectors, the same for datasets and environments.

An image is no part of a flat vector: it stays as it is, beside the others, until the stage `frames`
has learned to compress it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ldcq.config import FramesConfig
from ldcq.data.episodes import DataError, Float, Pixels, Spaces

if TYPE_CHECKING:
    import gymnasium

MOST_NUMBERS = 4096
"""Of one array of an observation that is no image."""
MOST_CHANNELS = 4
"""Of an image."""
Encode = Callable[[Pixels], Float]
"""Compresses frames (n, H, W, C) to vectors (n, Z)."""


class ImagesError(DataError):
    """Observations that look like images, where `frames` does not say how these are compressed."""


@dataclass(frozen=True)
class Leaf:
    """One array of an observation.

    Attributes:
        path: Of keys.
        size: Entries of the state that stand for it.
        discrete: It is one of `size` whole numbers from `start` on, and becomes one-hot.
        image: Of an image, its shape: H x W x C, or C x H x W.
    """

    path: tuple[str, ...]
    size: int
    discrete: bool = False
    start: int = 0
    image: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The keys joined by dots; empty for an observation that is no dictionary."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Flattening:
    """How observations become float32 vectors: leaves concatenated, Discrete ones as one-hot,
    images compressed. All images are of one shape.
    """

    leaves: tuple[Leaf, ...]

    @property
    def size(self) -> int:
        """S."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(K, H, W, C) of the K images of an observation; empty where there are none."""
        images = [_height_width_channels(leaf.image) for leaf in self.leaves if leaf.image]
        return (len(images), *images[0]) if images else ()

    @property
    def vector_size(self) -> int:
        """Entries of a state that are of no image."""
        return sum(leaf.size for leaf in self.leaves if not leaf.image)

    def offset(self, name: str) -> int | None:
        """Where the leaf of that name starts in the flat vector; None if it is not in it."""
        offset = 0
        for leaf in self.leaves:
            if leaf.name == name:
                return offset
            offset += leaf.size
        return None

    def __call__(self, observations: Any, encode: Encode | None = None) -> Float:
        """Flattens n observations, an array or a dictionary of leading axis n, to (n, S), with the
        images compressed by `encode`.
        """
        if not self.frame_shape:
            return self.vectors(observations)
        if encode is None:
            raise ValueError("encode: got none, expected what compresses the images")
        frames = self.frames(observations)
        latents = encode(frames.reshape(-1, *frames.shape[2:]))
        return self.join(self.vectors(observations), latents)

    def vectors(self, observations: Any) -> Float:
        """What is no image of n observations, flattened and concatenated, (n, V)."""
        columns = [np.empty((_rows(observations), 0), np.float32)]
        for leaf in self.leaves:
            array = _part(observations, leaf)
            if leaf.discrete:
                choices = np.arange(leaf.start, leaf.start + leaf.size)
                columns.append((array.reshape(-1, 1) == choices).astype(np.float32))
            elif not leaf.image:
                columns.append(array.reshape(len(array), leaf.size).astype(np.float32))
        return columns[1] if len(columns) == 2 else np.concatenate(columns, axis=1)

    def frames(self, observations: Any) -> Pixels:
        """The images of n observations, (n, K, H, W, C), uint8.

        Raises:
            DataError: Values are not whole numbers from 0 to 255.
        """
        images = []
        for leaf in self.leaves:
            if leaf.image:
                values = _pixels(_part(observations, leaf), leaf.name)
                images.append(channels_last(values.reshape(len(values), *leaf.image)))
        return np.stack(images, axis=1)

    def join(self, vectors: Float, latents: Float) -> Float:
        """States (n, S) of `vectors` (n, V) and the compressed `frames`, (n K, Z) row by row."""
        images, columns = latents.reshape(len(vectors), -1), []
        for leaf in self.leaves:
            rest = images if leaf.image else vectors
            columns.append(rest[:, : leaf.size])
            if leaf.image:
                images = images[:, leaf.size :]
            else:
                vectors = vectors[:, leaf.size :]
        return np.concatenate(columns, axis=1)

    def single(self, observation: Any) -> Float:
        """Flattens one observation without images, shape (S,)."""
        state: Float = self(_add_axis(observation))[0]
        return state


def flattening(
    space: gymnasium.Space[Any],
    keys: Sequence[str] | None,
    name: str,
    frames: FramesConfig | None = None,
) -> Flattening:
    """How observations of `space` are flattened.

    Args:
        space: A Box, a Discrete, or a (nested) Dict, of which `keys` may leave out anything.
        keys: Keys of a Dict to concatenate, in this order; nested ones joined by dots, or a whole
            branch; None: all, sorted by name.
        name: Of the dataset or environment, for messages.
        frames: How images are compressed; None: there may be none.

    Raises:
        DataError: A key is unknown or given twice, keys are given for no Dict, a space that is
            wanted is of another kind, or images are there and `frames` is not, or the reverse, or
            they are of different shapes.
    """
    found = _leaves(space, keys, name, frames)
    check_images(found, name, frames)
    return Flattening(found)


def check_images(leaves: Sequence[Leaf], name: str, frames: FramesConfig | None) -> None:
    """Raises DataError where `frames` is set and there are no images, or some of two sizes."""
    images = {leaf.name: _height_width_channels(leaf.image) for leaf in leaves if leaf.image}
    if frames is not None and not images:
        raise DataError(
            f"frames: set, but {name} has no images in what data.observation_keys takes; expected "
            "uint8 arrays of H x W x C (frames.shape says so of flat ones): leave frames out"
        )
    if len(set(images.values())) > 1:
        sizes = ", ".join(f"{key} {_size(shape)}" for key, shape in images.items())
        raise DataError(
            f"{name}: its images are of different sizes ({sizes}), expected one size for all; name "
            "those of one in data.observation_keys"
        )


def _leaves(
    space: gymnasium.Space[Any],
    keys: Sequence[str] | None,
    name: str,
    frames: FramesConfig | None,
) -> tuple[Leaf, ...]:
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Dict):
        if keys is not None:
            raise DataError(
                f"data.observation_keys: {list(keys)} given, but the observations of {name} are no "
                f"dictionary ({space}); leave it out"
            )
        return (_leaf((), space, name, frames),)
    found = {".".join(path): (path, part) for path, part in _parts((), space)}
    names = ", ".join(sorted(found))
    if keys is None:
        return tuple(_leaf(*found[key], name, frames) for key in sorted(found))
    if not keys:
        raise DataError(f"data.observation_keys: empty, expected some of {names}")
    chosen: dict[str, Leaf] = {}
    for key in keys:
        matching = [part for part in sorted(found) if f"{part}.".startswith(f"{key}.")]
        if not matching:
            raise DataError(
                f"data.observation_keys: {name} has no {key!r}; expected some of {names}"
            )
        for part in matching:
            if part in chosen:
                raise DataError(f"data.observation_keys: {part!r} is given twice, expected once")
            chosen[part] = _leaf(*found[part], name, frames)
    return tuple(chosen.values())


def flat_spaces(flat: Flattening, space: gymnasium.Space[Any], name: str) -> Spaces:
    """The flat spaces of a task with actions of `space`, and with its images beside.

    Raises:
        DataError: Actions are neither a Box nor a Discrete that counts from 0.
    """
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete) and int(space.start) == 0:
        found = Spaces.discrete(flat.vector_size, int(space.n))
    elif isinstance(space, gymnasium.spaces.Box):
        found = Spaces.box(flat.vector_size, space.low, space.high)
    else:
        raise DataError(
            f"{name}: actions are {space}; expected a Box, or a Discrete that counts from 0"
        )
    return replace(found, frames=flat.frame_shape)


def flat_actions(actions: npt.ArrayLike, spaces: Spaces) -> npt.NDArray[np.generic]:
    """Actions with leading axis n as rows, shape (n, A)."""
    array = np.asarray(actions)
    return array.reshape(len(array), -1 if len(array) else spaces.action_dim)


def joined_goal(goal: Any, count: int) -> Float:
    """`desired_goal` of several observations, an array or a (nested) dictionary of arrays with the
    leading axis `count`, where one has none if `count` is 1.

    Returns:
        Shape (count, G): parts of a dictionary are joined in the order of their names.
    """
    if isinstance(goal, Mapping):
        return np.concatenate([joined_goal(goal[name], count) for name in sorted(goal)], axis=1)
    return np.array(goal, np.float32).reshape(count, -1)


def _parts(
    path: tuple[str, ...], space: gymnasium.Space[Any]
) -> list[tuple[tuple[str, ...], gymnasium.Space[Any]]]:
    """The spaces inside a Dict, whatever they are, with their keys."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Dict):
        children = space.spaces.items()
        return [part for key, child in children for part in _parts((*path, str(key)), child)]
    return [(path, space)]


def _leaf(
    path: tuple[str, ...], space: gymnasium.Space[Any], name: str, frames: FramesConfig | None
) -> Leaf:
    import gymnasium

    where = f"observation {'.'.join(path)!r}" if path else "observations"
    instead = "; leave it out, by naming the others in data.observation_keys" if path else ""
    if isinstance(space, gymnasium.spaces.Box):
        return array_leaf(path, space.shape, space.dtype, f"{name}: {where}", frames, instead)
    if isinstance(space, gymnasium.spaces.Discrete):
        return Leaf(path, int(space.n), discrete=True, start=int(space.start))
    raise DataError(f"{name}: {where} are {space}; expected Box or Discrete{instead}")


def array_leaf(
    path: tuple[str, ...],
    shape: Sequence[int],
    dtype: Any,
    what: str,
    frames: FramesConfig | None,
    instead: str = "",
) -> Leaf:
    """A leaf of numbers: an image where `frames` is set and it looks like one, else a vector.

    Args:
        path: Of its keys.
        shape: Of one observation.
        dtype: Of its numbers.
        what: For the message.
        frames: How images are compressed; None: there may be none.
        instead: What else to do, for the message.

    Raises:
        ImagesError: An image without `frames`, or more than `MOST_NUMBERS` numbers.
        DataError: An image that is no picture of 8 bits.
    """
    given, size = tuple(shape), int(np.prod(shape))
    stated = frames is not None and frames.shape is not None and size == np.prod(frames.shape)
    if len(given) <= 2 and size <= MOST_NUMBERS and not stated:
        return Leaf(path, size)
    if frames is None or not (stated or len(given) == 3):
        images = "frames={} compresses images: set it"
        if len(given) < 3:
            images = "frames={shape: [H, W, C]} compresses images that are flat: set it"
        raise ImagesError(
            f"{what} are of shape {given}; expected at most {MOST_NUMBERS} numbers on one or two "
            f"axes, as images are not flattened. {images}{instead}"
        )
    image = frames.shape if stated and frames.shape is not None else given
    if not (image[-1] <= MOST_CHANNELS or image[0] <= MOST_CHANNELS):
        raise DataError(
            f"{what} are of shape {image}; expected images of H x W x C or C x H x W, with 1 to "
            f"{MOST_CHANNELS} channels{instead}"
        )
    if not stated and np.dtype(dtype) != np.uint8:
        raise DataError(
            f"{what} are images of {np.dtype(dtype)}; expected uint8, or frames.shape where they "
            f"are whole numbers from 0 to 255{instead}"
        )
    return Leaf(path, frames.latent_dim, image=tuple(image))


def channels_last(images: Pixels) -> Pixels:
    """Images (n, H, W, C), or (n, C, H, W), as (n, H, W, C)."""
    return images if images.shape[-1] <= MOST_CHANNELS else np.moveaxis(images, 1, -1)


def _height_width_channels(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape) if shape[-1] <= MOST_CHANNELS else (*shape[1:], shape[0])


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _part(observations: Any, leaf: Leaf) -> npt.NDArray[Any]:
    for key in leaf.path:
        observations = observations[key]
    return np.asarray(observations)


def _rows(observations: Any) -> int:
    while isinstance(observations, Mapping):
        observations = next(iter(observations.values()))
    return len(observations)


def _pixels(values: npt.NDArray[Any], name: str) -> Pixels:
    if values.dtype == np.uint8:
        return values
    pixels = values.astype(np.uint8)
    if not np.array_equal(pixels, values):
        raise DataError(
            f"observations{f' {name!r}' if name else ''}: pixels from {values.min()} to "
            f"{values.max()} ({values.dtype}), expected whole numbers from 0 to 255"
        )
    return pixels


def _add_axis(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: _add_axis(value) for key, value in observation.items()}
    return np.asarray(observation)[None]
