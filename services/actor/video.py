"""A rollout as a GIF: drawn over the maze where there is one, else rendered by the simulator."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from common.data import Layout
from common.data.maze import GOAL_RADIUS
from common.data.task import EnvironmentFactory
from common.store.files import replace_atomically
from ldcq.policy import Policy
from services.actor.evaluate import Evaluation
from services.actor.rollout import EnvFactory, Observe, rollout

_LOGGER = logging.getLogger(__name__)

FRAMES = 120
"""Frames of a GIF at most: about 10 seconds."""
FRAME_MILLISECONDS = 80
HOLD_MILLISECONDS = 1500
"""How long the last frame stays."""
_WIDTH = 420
_OVERSAMPLING = 2
"""Drawn larger, then shrunk: Pillow does not smooth edges itself."""
_GROUND, _WALL, _INK = "#ffffff", "#c9ced4", "#16191d"
_GOAL, _TRAIL, _AGENT = "#bfe6d6", "#8db4f0", "#2a6fdb"


def video_path(store_root: Path, evaluation_version: str) -> Path:
    """Where the video of an evaluation is, if there is one."""
    return store_root / "videos" / f"{evaluation_version}.gif"


def save_video(store_root: Path, version: str, evaluation: Evaluation) -> None:
    """Saves the first episode of the first method that acts as a GIF in the store's folder; says in
    the log where this machine cannot make one.
    """
    method = next(iter(evaluation.policies))
    episode, task = evaluation.episodes[method][0], evaluation.task
    gif: bytes | None = None
    if task.layout is not None and episode.positions is not None:
        gif = maze_gif(task.layout, episode.positions, episode.rewards)
    elif isinstance(task.make_env, EnvironmentFactory):
        gif = rendered_gif(
            partial(task.make_env, render_mode="rgb_array"),
            evaluation.policy(method),
            seed=evaluation.base.evaluation.seed,
            max_episode_steps=task.max_episode_steps,
            observe=evaluation.observe(method),
        )
    if gif is None:
        return
    path = video_path(store_root, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, gif)


def maze_gif(layout: Layout, positions: NDArray[Any], rewards: NDArray[Any]) -> bytes:
    """One episode over the maze, with positions (T + 1, 2) and rewards (T,), as an animated GIF."""
    shown = np.unique(np.linspace(0, len(rewards), min(FRAMES, len(rewards) + 1)).astype(int))
    ground = _ground(layout)
    totals = np.concatenate([[0.0], np.cumsum(rewards)])
    frames = []
    for step in shown:
        frame = ground.copy()
        _draw_agent(frame, layout, positions[: step + 1])
        small = frame.resize((frame.width // _OVERSAMPLING, frame.height // _OVERSAMPLING))
        text = f"step {step}   return {totals[step]:.0f}"
        ImageDraw.Draw(small).text((8, 5), text, fill=_INK, font_size=13)
        frames.append(small)
    return to_gif(frames)


def rendered_gif(
    make_env: EnvFactory,
    policy: Policy,
    *,
    seed: int,
    max_episode_steps: int,
    observe: Observe | None = None,
) -> bytes | None:
    """Plays one episode with the simulator's own pictures.

    Returns:
        An animated GIF, or None (said in the log) where this machine cannot render it.
    """
    frames: list[Image.Image] = []
    every = max(1, -(-max_episode_steps // FRAMES))

    def make() -> gymnasium.Env[Any, Any]:
        with _rendering():
            return _Photographed(make_env(), frames, every)

    try:
        for _ in rollout(
            make,
            policy,
            episodes=1,
            environments=1,
            seed=seed,
            max_episode_steps=max_episode_steps,
            observe=observe,
        ):
            pass
    except RenderingError as error:
        _LOGGER.warning("no video: %s", error)
        return None
    return to_gif(frames) if frames else None


def to_gif(frames: Sequence[Image.Image]) -> bytes:
    """Frames as an animated GIF that repeats."""
    buffer = io.BytesIO()
    # One palette for all: a palette per frame costs most of the time, and flickers.
    palette = frames[-1].quantize(colors=64)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [HOLD_MILLISECONDS]
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    return buffer.getvalue()


class RenderingError(RuntimeError):
    """This machine or this environment cannot render."""


@contextmanager
def _rendering() -> Iterator[None]:
    """Drivers fail in as many ways as there are (EGL, GLFW, OSMesa): any means no pictures."""
    try:
        yield
    except Exception as error:
        raise RenderingError(
            f"the environment cannot be rendered here ({type(error).__name__}: {error}); "
            f"MuJoCo needs a display, or MUJOCO_GL=egl or osmesa with that library installed"
        ) from error


class _Photographed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds a picture of every `every`th step to `frames`."""

    def __init__(self, env: gymnasium.Env[Any, Any], frames: list[Image.Image], every: int) -> None:
        super().__init__(env)
        self._frames, self._every, self._steps = frames, every, 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        if self._steps % self._every == 0:
            self._frames.append(_photograph(self.env))
        self._steps += 1
        return result


def _photograph(env: gymnasium.Env[Any, Any]) -> Image.Image:
    with _rendering():
        pixels: Any = env.render()
    if not isinstance(pixels, np.ndarray):
        raise RenderingError("the environment has no render mode 'rgb_array'")
    image = Image.fromarray(pixels.astype(np.uint8))
    return image.resize((_WIDTH, round(image.height * _WIDTH / image.width)))


def _ground(layout: Layout) -> Image.Image:
    scale = _scale(layout)
    rows, columns = layout.walls.shape
    cell = layout.cell_size * scale
    image = Image.new("RGB", (round(columns * cell), round(rows * cell)), _GROUND)
    pen = ImageDraw.Draw(image)
    for row, column in np.argwhere(layout.walls):
        box = (column * cell, row * cell, (column + 1) * cell, (row + 1) * cell)
        pen.rectangle(box, fill=_WALL)
    if layout.goal is not None:
        pen.circle(_pixel(layout, layout.goal), GOAL_RADIUS * scale, fill=_GOAL)
    return image


def _draw_agent(image: Image.Image, layout: Layout, path: NDArray[Any]) -> None:
    pen = ImageDraw.Draw(image)
    points = [_pixel(layout, point) for point in path]
    if len(points) > 1:
        pen.line(points, fill=_TRAIL, width=3 * _OVERSAMPLING, joint="curve")
    pen.circle(points[-1], 7 * _OVERSAMPLING, fill=_AGENT)


def _scale(layout: Layout) -> float:
    """Pixels per metre."""
    width: int = layout.walls.shape[1]
    return _WIDTH * _OVERSAMPLING / (width * layout.cell_size)


def _pixel(layout: Layout, point: Any) -> tuple[float, float]:
    left, _, _, top = layout.extent
    scale = _scale(layout)
    return (float(point[0]) - left) * scale, (top - float(point[1])) * scale
