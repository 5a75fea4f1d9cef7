"""An ant that walks in a given direction: a small trained network, seen from the ant itself.

The ant is OGBench's, with D4RL's gears and time step. It is symmetric: a quarter turn of the body
about its own z is a renaming of its legs. So everything is seen with the leg pair in front that is
nearest to the direction, and one network serves all four. It keeps its axes along the world's and
walks sideways, so that who learns from it need not know every heading. `experiments/ant_policy`
trains it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
VIEW = 30
"""Entries of what the network sees."""
SPEED_LIMIT = 20.0
"""Of what it sees, in radians or metres per second."""
SEEN_HEADING = np.pi / 6
"""What `walk` shows the network of a heading at most, to either side: in training the body was
hardly ever turned further. It turns back from there, and so from everywhere.
"""
WEIGHTS = "ant.safetensors"
_BENDS = np.array([1.0, -1.0, -1.0, 1.0])
"""Signs of the ankles of legs 1 to 4: two of their axes point the other way."""
_ACTUATORS = np.array([3, 0, 1, 2])
"""Which leg each pair of actuators, hip and ankle, belongs to."""


def view(
    state: Vector, direction: Vector, turn: float = 0.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """What the network sees of states.

    Args:
        state: Positions and velocities of MuJoCo, shape (..., 29).
        direction: Unit vectors in the plane, shape (..., 2).
        turn: The heading that the body is to keep, in radians.

    Returns:
        Height, the world's up, the velocities, the joints leg by leg (hips, then ankles), their
        velocities, the direction, and sine and cosine of the body's own heading from `turn` on,
        shape (..., 30); and by how many quarter turns the legs are renamed, shape (...,).
    """
    w, x, y, z = np.moveaxis(state[..., 3:7], -1, 0)
    # Rows are the world's axes, columns the body's.
    to_world = np.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        axis=-1,
    ).reshape(*state.shape[:-1], 3, 3)
    flat = np.concatenate([direction, np.zeros_like(direction[..., :1])], axis=-1)
    towards, velocity = (
        np.einsum("...ij,...i->...j", to_world, vector) for vector in (flat, state[..., 15:18])
    )
    quarters = np.rint(np.arctan2(towards[..., 1], towards[..., 0]) / (np.pi / 2)).astype(np.int64)
    quarters %= 4
    legs = (np.arange(4) + quarters[..., None]) % 4
    heading = 2 * np.arctan2(z, w) - turn  # before it leans: a turn about its own z adds to it
    parts = [
        state[..., 2:3],
        *(_turned(each, quarters) for each in (to_world[..., 2, :], velocity, state[..., 18:21])),
        *_of_legs(state[..., 7:15], legs),
        *_of_legs(state[..., 21:29], legs),
        _turned(towards, quarters)[..., :2],
        np.stack([np.sin(heading), np.cos(heading)], axis=-1),
    ]
    seen = np.clip(np.concatenate(parts, axis=-1), -SPEED_LIMIT, SPEED_LIMIT)
    return seen.astype(np.float32), quarters


def is_down(observation: Vector) -> npt.NDArray[np.bool_]:
    """Whether the body's own up points down.

    Args:
        observation: Positions without x and y, and velocities, shape (..., 27).
    """
    x, y = observation[..., 2], observation[..., 3]
    return np.asarray(1 - 2 * (x * x + y * y) < 0)


def to_actuators(action: npt.NDArray[np.floating], quarters: npt.NDArray[np.int64]) -> Vector:
    """The network's torques, hips and ankles of its four legs, in the order of the actuators.

    Args:
        action: Shape (..., 8).
        quarters: As `view` returns them, shape (...,).
    """
    legs = (np.arange(4) - quarters[..., None]) % 4
    hips = np.take_along_axis(action[..., :4], legs, -1)
    ankles = _BENDS * np.take_along_axis(action[..., 4:], legs, -1)
    pairs = np.stack([hips, ankles], axis=-1)[..., _ACTUATORS, :]
    return np.asarray(pairs.reshape(*action.shape[:-1], 8), np.float64)


def walk(state: Vector, direction: Vector, turn: float = 0.0) -> Vector:
    """Torques that walk the ant in a direction, in [-1, 1], without noise.

    Args:
        state: Shape (..., 29).
        direction: Unit vectors, shape (..., 2).
        turn: The heading that the body is to keep, in radians.

    Returns:
        Shape (..., 8).
    """
    seen, quarters = view(state, direction, turn)
    heading = np.arctan2(seen[..., -2], seen[..., -1]).clip(-SEEN_HEADING, SEEN_HEADING)
    seen[..., -2:] = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    weights = _weights()
    hidden = np.clip((seen - weights["mean"]) / weights["deviation"], -8, 8)
    for layer in ("0", "1"):
        hidden = np.tanh(hidden @ weights[f"weight{layer}"].T + weights[f"bias{layer}"])
    action = hidden @ weights["weight2"].T + weights["bias2"]
    return to_actuators(np.clip(action, -1, 1), quarters)


@cache
def _weights() -> dict[str, npt.NDArray[np.float32]]:
    from safetensors.numpy import load

    return dict(load(files(__package__).joinpath(WEIGHTS).read_bytes()))


def _turned(vectors: Vector, quarters: npt.NDArray[np.int64]) -> Vector:
    """Vectors of the body, seen with its axes turned by quarters about z."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    cos, sin = np.array([1, 0, -1, 0])[quarters], np.array([0, 1, 0, -1])[quarters]
    return np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=-1)


def _of_legs(joints: Vector, legs: npt.NDArray[np.int64]) -> tuple[Vector, Vector]:
    """Hips and ankles, (..., 4) each, of joints in the order of the legs, (..., 8)."""
    hips, ankles = np.moveaxis(joints.reshape(*joints.shape[:-1], 4, 2), -1, 0)
    return np.take_along_axis(hips, legs, -1), np.take_along_axis(_BENDS * ankles, legs, -1)
