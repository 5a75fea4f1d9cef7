"""CarRacing: a scripted driver who knows the track, as the nearest thing to D4RL's CARLA."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import WrapperSpec

from common.data.environments import recorded_spec
from common.data.extras import require
from common.data.minari_writing import EpisodeArrays
from common.data.wrappers import RacingView
from common.generators.playing import whole_episode
from ldcq.config.generate import CarRacingConfig

Vector = npt.NDArray[np.float64]
ENVIRONMENT = "CarRacing-v3"
PACES = 0.7, 1.0
"""Of the speed that a bend allows; drawn for every episode."""
ASIDE = 3.0
"""How far from the middle of the road an episode's line is at most; the road is 13.3 wide."""

TILE = 3.5
"""Length of a tile of the track, CarRacing's."""
SMOOTHED = 3
"""Tiles before and behind, over which a bend is averaged."""
TOP_SPEED, GRIP, BRAKING = 75.0, 100.0, 40.0
"""Most speed, centripetal acceleration and deceleration that are planned with."""
NEAR, AHEAD = 6.0, 0.36
"""The pursued point is so far away, and so many seconds of driving further."""
WHEEL_BASE, STEERING = 3.24, 0.4
"""Of the car: between its axles, and the angle of its front wheels at most."""
GAS, BRAKE = 0.1, 0.05
"""Pedal for every unit of speed that is missing, or too much."""
MOST_GAS, MOST_BRAKE, GAS_IN_BENDS = 0.65, 0.8, 0.5
"""Of the pedals; gas falls to that share with the wheel turned fully, as the rear wheels slip."""


class RacingLine:
    """Pure pursuit of a line beside the middle of a track, as fast as its bends allow."""

    def __init__(self, track: Vector, pace: float, aside: float) -> None:
        """Plans the speed.

        Args:
            track: Of every tile an angle that is of no use, the heading, x and y, shape (N, 4).
            pace: Share of the speed that is possible.
            aside: Distance of the line from the middle, to the right.
        """
        headings, middle = track[:, 1], track[:, 2:]
        right = np.stack([np.cos(headings), np.sin(headings)], axis=1)
        self._line, self._at = middle + aside * right, 0
        turns = (np.roll(headings, -1) - headings + np.pi) % (2 * np.pi) - np.pi
        shifts = range(-SMOOTHED, SMOOTHED + 1)
        bends = np.abs(np.mean([np.roll(turns, shift) for shift in shifts], axis=0)) / TILE
        speeds = pace * np.minimum(TOP_SPEED, np.sqrt(GRIP / np.maximum(bends, 1e-6)))
        for tile in reversed(range(2 * len(speeds))):  # twice around: it has no first tile
            later = speeds[(tile + 1) % len(speeds)]
            here = tile % len(speeds)
            speeds[here] = min(speeds[here], np.sqrt(later**2 + 2 * BRAKING * TILE))
        self._speeds = speeds

    def __call__(self, position: Vector, angle: float, velocity: Vector) -> Vector:
        """Wheel, positive to the right, and pedal, positive for gas, in [-1, 1], shape (2,).

        Args:
            position: Of the car, shape (2,).
            angle: Of the car, 0 along y.
            velocity: Of the car, shape (2,).
        """
        tiles = len(self._line)
        near = (self._at + np.arange(-5, 30)) % tiles
        distances = np.linalg.norm(self._line[near] - position, axis=1)
        self._at = int(near[np.argmin(distances)])
        right = np.array([np.cos(angle), np.sin(angle)])
        forward = np.array([-right[1], right[0]])
        speed = float(velocity @ forward)
        ahead = round((NEAR + AHEAD * abs(speed)) / TILE)
        away = self._line[(self._at + ahead) % tiles] - position
        bearing = np.arctan2(away @ right, away @ forward)
        turned = np.arctan2(2 * WHEEL_BASE * np.sin(bearing), np.linalg.norm(away))
        wheel = np.clip(turned / STEERING, -1, 1)
        missing = self._speeds[(self._at + 2) % tiles] - speed
        gas = min(GAS * missing, MOST_GAS) * (1 - (1 - GAS_IN_BENDS) * abs(wheel))
        return np.array([wheel, gas if missing > 0 else max(BRAKE * missing, -MOST_BRAKE)])


class ScriptedDriver:
    """Drives one lap after the other, each on a line and at a pace of its own, with noise on wheel
    and pedals.

    It knows track and car; the data hold what `RacingView` shows. An episode ends with the lap, off
    the playfield, or after 1000 steps.
    """

    def __init__(self, config: CarRacingConfig) -> None:
        """Makes the environment.

        Raises:
            DataError: Box2D is not installed.
        """
        require("Box2D", "data.generate")
        self.environment: gymnasium.Env[Any, Any] = RacingView(gymnasium.make(ENVIRONMENT))
        self._noise = config.noise
        self.evaluation = recorded_spec(ENVIRONMENT)
        view = WrapperSpec("RacingView", "common.data.wrappers:RacingView", {})
        self.evaluation.additional_wrappers = (view,)
        self.metadata = {
            "algorithm_name": "scripted driver",
            "description": f"Laps of {ENVIRONMENT}, by pure pursuit of lines beside the middle.",
        }

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        """One episode, a function of `seed` alone."""
        random = np.random.default_rng(seed)
        observation, _ = self.environment.reset(seed=int(seed.generate_state(1)[0]))
        task: Any = self.environment.unwrapped
        hull, limits = task.car.hull, task.action_space
        pace, aside = random.uniform(*PACES), random.uniform(-ASIDE, ASIDE)
        drive = RacingLine(np.array(task.track), pace, aside)

        def act(_observation: Any, _step: int) -> npt.NDArray[np.float32]:
            wheel, pedal = drive(
                np.array(hull.position), hull.angle, np.array(hull.linearVelocity)
            ) + self._noise * random.standard_normal(2)
            action = np.clip([wheel, pedal, -pedal], limits.low, limits.high)
            return np.asarray(action, np.float32)

        return whole_episode(self.environment, observation, act)
