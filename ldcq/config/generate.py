"""The section `data.generate`: data that are made here, by whom and where."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from ldcq.config.maze_map import maze_rows
from ldcq.config.section import NonNegative, Positive, PositiveFloat, Section, Seed

MazeName = Literal["umaze", "medium", "large"]
Noise = Annotated[float, Field(ge=0)]


class PointMazeConfig(Section):
    """Generated data: D4RL's waypoint controller in gymnasium-robotics' PointMaze."""

    kind: Literal["pointmaze"] = "pointmaze"
    maze: MazeName | tuple[str, ...] = "large"
    """One of D4RL's, or a map of your own: rows of `#` (wall), ` ` or `.` (free), one `G` (goal),
    and `R` where episodes start (none: in any free cell), or gymnasium-robotics' lists of cells."""
    steps: Positive = 1_000_000
    noise: Noise = 0.5
    """Standard deviation of the Gaussian noise added to an action before it is clipped."""
    max_episode_steps: Positive | None = None
    """Time limit of an evaluation; None: D4RL's, or 300 in a maze of your own."""
    pixels: Annotated[int, Field(ge=16)] | None = None
    """Observations are a picture of the maze of this many pixels a side, as `image`, and the
    `velocity`, which no single picture shows; None: position and velocity."""
    seed: Seed = 0

    @field_validator("maze", mode="before")
    @classmethod
    def _known_maze_or_map(cls, given: object) -> object:
        if isinstance(given, str):
            if given not in get_args(MazeName):
                raise ValueError(f"expected one of {', '.join(get_args(MazeName))}, or a map")
            return given
        return maze_rows(given)


class RandomWalkConfig(Section):
    """Generated data: the one-dimensional random walk (supplement D)."""

    kind: Literal["random_walk"] = "random_walk"
    steps: Positive = 100_000
    seed: Seed = 0


class OgbenchPlayConfig(Section):
    """Generated data: scripted play in one of OGBench's manipulation environments."""

    kind: Literal["ogbench_play"] = "ogbench_play"
    environment: Annotated[str, Field(pattern=r"^(scene|cube-[a-z]+|puzzle-\dx\d)-v0$")] = (
        "scene-v0"
    )
    """Gymnasium id of OGBench's, without its task: scene-v0, cube-double-v0."""
    steps: Positive = 1_000_000
    noise: Noise = 0.1
    """Of the plans that the script follows, OGBench's measure."""
    seed: Seed = 0


class AntMazeConfig(Section):
    """Generated data: an ant that walks from place to place in D4RL's AntMaze."""

    kind: Literal["ant_maze"] = "ant_maze"
    maze: Literal["medium", "large"] = "large"
    steps: Positive = 1_000_000
    noise: Noise = 0.2
    """Standard deviation of the Gaussian noise added to an action before it is clipped."""
    spread: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much of a corridor's width starts, waypoints and goals fill; 0: its middle alone."""
    homing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the ways that lead to the goal of the maze; 0: chance leads there, as in OGBench's
    `navigate`, and few steps in ten thousand have a reward."""
    strays: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps in which it walks astray, for 10 to 39 steps in one direction whatever
    stands there and with its body turned, so that the data know how to leave a wall and how to turn
    back; 0: OGBench's `navigate`."""
    seed: Seed = 0


class CarRacingConfig(Section):
    """Generated data: a scripted driver in Gymnasium's CarRacing."""

    kind: Literal["car_racing"] = "car_racing"
    steps: Positive = 50_000
    noise: Noise = 0.2
    """Standard deviation of the Gaussian noise added to wheel and pedal before they are clipped."""
    seed: Seed = 0


class PlayingPolicy(Section):
    """One of the policies that make data."""

    file: Annotated[str, Field(min_length=1)] | None = None
    """An npz file of its layers, see `common.generators.policies.Network`; None: a task's, which
    `ldcq data generate` is given."""
    share: PositiveFloat = 1.0
    """Of the episodes, relative to that of the others."""
    noise: tuple[Noise, Noise] = (0.0, 0.0)
    """Standard deviation of the Gaussian noise added to an action before it is clipped: drawn for
    every episode between these two."""
    weakness: tuple[Noise, Noise] = (0.0, 0.0)
    """Standard deviation of a change of every weight, in root mean squares of its layer: drawn for
    every episode between these two. A few hundredths make a policy that does less well but means
    what it does, where noise on actions leaves the policy's own ones in the middle of the data."""
    weaker: NonNegative | None = None
    """Which change: every number is one weaker policy; None: another in every episode."""

    @field_validator("noise", "weakness")
    @classmethod
    def _ascending(cls, given: tuple[float, float]) -> tuple[float, float]:
        if given[0] > given[1]:
            raise ValueError(f"got {list(given)}, expected the smaller number first")
        return given


class PolicyConfig(Section):
    """Generated data: episodes of trained policies in a Gymnasium environment."""

    kind: Literal["policy"] = "policy"
    environment: Annotated[str, Field(min_length=1)]
    """Its id."""
    policies: Annotated[tuple[PlayingPolicy, ...], Field(min_length=1)]
    steps: Positive = 1_000_000
    seed: Seed = 0


Generate = Annotated[
    PointMazeConfig
    | RandomWalkConfig
    | OgbenchPlayConfig
    | AntMazeConfig
    | CarRacingConfig
    | PolicyConfig,
    Field(discriminator="kind"),
]
