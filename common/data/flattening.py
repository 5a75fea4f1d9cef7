"""Observations and actions to flat vectors, the same for datasets and environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import DataError, Float, Spaces

if TYPE_CHECKING:
    import gymnasium

MOST_NUMBERS = 4096
"""Of one array of an observation."""


@dataclass(frozen=True)
class Leaf:
    """One array of an observation: path of keys, flat size, and its values if it is Discrete."""

    path: tuple[str, ...]
    size: int
    discrete: bool = False
    start: int = 0

    @property
    def name(self) -> str:
        """The keys joined by dots; empty for an observation that is no dictionary."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Flattening:
    """How observations become float32 vectors: leaves concatenated, Discrete ones as one-hot."""

    leaves: tuple[Leaf, ...]

    @property
    def size(self) -> int:
        """S."""
        return sum(leaf.size for leaf in self.leaves)

    def offset(self, name: str) -> int | None:
        """Where the leaf of that name starts in the flat vector; None if it is not in it."""
        offset = 0
        for leaf in self.leaves:
            if leaf.name == name:
                return offset
            offset += leaf.size
        return None

    def __call__(self, observations: Any) -> Float:
        """Flattens n observations, an array or a dictionary of leading axis n, to (n, S)."""
        columns = []
        for leaf in self.leaves:
            values = observations
            for key in leaf.path:
                values = values[key]
            array = np.asarray(values)
            if leaf.discrete:
                choices = np.arange(leaf.start, leaf.start + leaf.size)
                columns.append((array.reshape(-1, 1) == choices).astype(np.float32))
            else:
                columns.append(array.reshape(len(array), leaf.size).astype(np.float32))
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

    def single(self, observation: Any) -> Float:
        """Flattens one observation, shape (S,)."""
        state: Float = self(_add_axis(observation))[0]
        return state


def flattening(space: gymnasium.Space[Any], keys: Sequence[str] | None, name: str) -> Flattening:
    """How observations of `space` are flattened.

    Args:
        space: A Box, a Discrete, or a (nested) Dict, of which `keys` may leave out anything.
        keys: Keys of a Dict to concatenate, in this order; nested ones joined by dots, or a whole
            branch; None: all, sorted by name.
        name: Of the dataset or environment, for messages.

    Raises:
        DataError: A key is unknown or given twice, keys are given for no Dict, or a space that is
            wanted is of another kind or an image.
    """
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Dict):
        if keys is not None:
            raise DataError(
                f"data.observation_keys: {list(keys)} given, but the observations of {name} are no "
                f"dictionary ({space}); leave it out"
            )
        return Flattening((_leaf((), space, name),))
    found = {".".join(path): (path, part) for path, part in _parts((), space)}
    names = ", ".join(sorted(found))
    if keys is None:
        return Flattening(tuple(_leaf(*found[key], name) for key in sorted(found)))
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
            chosen[part] = _leaf(*found[part], name)
    return Flattening(tuple(chosen.values()))


def flat_spaces(state_dim: int, space: gymnasium.Space[Any], name: str) -> Spaces:
    """The flat spaces of a task with actions of `space`.

    Raises:
        DataError: Actions are neither a Box nor a Discrete that counts from 0.
    """
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete) and int(space.start) == 0:
        return Spaces.discrete(state_dim, int(space.n))
    if isinstance(space, gymnasium.spaces.Box):
        return Spaces.box(state_dim, space.low, space.high)
    raise DataError(
        f"{name}: actions are {space}; expected a Box, or a Discrete that counts from 0"
    )


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


def _leaf(path: tuple[str, ...], space: gymnasium.Space[Any], name: str) -> Leaf:
    import gymnasium

    where = f"observation {'.'.join(path)!r}" if path else "observations"
    instead = "; leave it out, by naming the others in data.observation_keys" if path else ""
    if isinstance(space, gymnasium.spaces.Box):
        check_vector(space.shape, f"{name}: {where}", instead)
        return Leaf(path, int(np.prod(space.shape)))
    if isinstance(space, gymnasium.spaces.Discrete):
        return Leaf(path, int(space.n), discrete=True, start=int(space.start))
    raise DataError(f"{name}: {where} are {space}; expected Box or Discrete{instead}")


def check_vector(shape: Sequence[int], what: str, instead: str = "") -> None:
    """Refuses images and the like, of which a flat vector makes no sense.

    Args:
        shape: Of one observation.
        what: For the message.
        instead: What to do, for the message.

    Raises:
        DataError: It has three axes or more, or more than `MOST_NUMBERS` numbers.
    """
    if len(shape) > 2 or np.prod(shape) > MOST_NUMBERS:
        raise DataError(
            f"{what} are of shape {tuple(shape)}; images are not learned from, expected at most "
            f"{MOST_NUMBERS} numbers on one or two axes{instead}"
        )


def _add_axis(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: _add_axis(value) for key, value in observation.items()}
    return np.asarray(observation)[None]
