"""Environments in processes are those of one process, and no process is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from common.data.environments import POINT_MAZE
from common.data.flat_environment import GOAL, SUCCESS, FlatEnvironment
from common.data.flattening import flattening
from common.data.task import EnvironmentFactory
from ldcq.config import EnvironmentConfig
from services.actor.environment_processes import EnvironmentProcessError, EnvironmentProcesses
from services.actor.environments import EnvironmentPool
from services.actor.rollout import Episode, MakeEnvironments, Observe, one_process, rollout
from tests.services.actor.test_rollout import LIMIT, Agent, Chase, Drift, Says

ALIVE_SECONDS = 20


class Pictures(Drift):
    """Shows where it is as numbers and as an image."""

    def __init__(self) -> None:
        super().__init__()
        image = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {"camera": image, "seen": gymnasium.spaces.Dict({"state": self.observation_space})}
        )

    def _shown(self) -> dict[str, Any]:
        bright = np.full((4, 4, 3), np.clip(self.position * 40 + 128, 0, 255).astype(np.uint8))
        return {"camera": bright, "seen": {"state": self.position.copy()}}

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**arguments)
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._shown(), *super().step(action)[1:]


def _states(observations: Any) -> Any:
    brightness = observations["camera"].mean(axis=(1, 2), dtype=np.float32)
    return np.concatenate([observations["seen"]["state"] / 2, brightness / 255], axis=1)


def chase_that_says() -> FlatEnvironment:
    env = Chase()
    return FlatEnvironment(Says(env), flattening(env.observation_space, ["observation"], "chase"))


class Pursuer(Agent):
    """Acts by states and goals."""

    def act(self, observations: Any, goals: Any = None) -> Any:
        return super().act(observations) + (0 if goals is None else np.sin(goals))


def _play(
    make_env: Any, observe: Observe | None, make: MakeEnvironments, width: int = 5
) -> list[Episode]:
    played = rollout(
        make_env,
        Pursuer(),
        episodes=12,
        environments=width,
        seed=5,
        max_episode_steps=LIMIT,
        position_indices=(0, 1),
        observe=observe,
        make_environments=make,
    )
    return sorted(played, key=lambda episode: episode.index)


POINT_MAZE_FACTORY = EnvironmentFactory(
    None, EnvironmentConfig(id=POINT_MAZE, kwargs={"maze": "umaze"}), ("observation",)
)


@pytest.mark.parametrize(
    ("make_env", "observe", "ends"),
    [
        (Drift, None, True),
        (chase_that_says, None, True),
        (Pictures, _states, True),
        (POINT_MAZE_FACTORY, None, False),
    ],
    ids=["ends early", "goals and success", "images", "PointMaze"],
)
def test_episodes_are_those_of_one_process(
    make_env: Any, observe: Observe | None, ends: bool
) -> None:
    expected = _play(make_env, observe, one_process, width=7)
    pool = EnvironmentPool(processes=3)  # of 1, 2 and 2 environments
    for _ in ("new", "used"):
        played = _play(make_env, observe, pool.take)
        for episode, wanted in zip(played, expected, strict=True):
            assert (episode.index, episode.success) == (wanted.index, wanted.success)
            np.testing.assert_array_equal(episode.rewards, wanted.rewards)
            np.testing.assert_array_equal(episode.positions, wanted.positions)
        assert len(multiprocessing.active_children()) == 3
    pool.close()
    assert multiprocessing.active_children() == []
    assert (len({len(episode.rewards) for episode in expected}) > 1) == ends


def test_results_are_those_of_gymnasiums_vectors() -> None:
    alone, apart = one_process(chase_that_says, 3), EnvironmentProcesses(chase_that_says, 3, 2)
    assert apart.single_action_space == alone.single_action_space
    seeds: Any = [4, 5, 6]

    def compare(found: Any, expected: Any) -> None:
        for one, other in zip(found[:-1], expected[:-1], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        kept = {key for key in expected[-1] if key.lstrip("_") in (SUCCESS, GOAL)}
        assert set(found[-1]) == kept
        for key in kept:
            np.testing.assert_array_equal(found[-1][key], expected[-1][key])
            assert found[-1][key].dtype == expected[-1][key].dtype

    compare(apart.reset(seed=seeds), alone.reset(seed=seeds))
    told = set()
    for step in range(30):
        actions = np.full((3, 2), -0.5 if step % 2 else 0.4, np.float32)
        found, expected = apart.step(actions), alone.step(actions)
        compare(found, expected)
        told.add(tuple(expected[-1].get(f"_{SUCCESS}", ())))
        mask = expected[2] | (np.arange(3) == step % 3)
        begun = apart.reset(seed=seeds, options={"reset_mask": mask})
        compare(begun, alone.reset(seed=seeds, options={"reset_mask": mask}))
    assert len(told) > 2, "success is told by some environments only"
    apart.close()
    alone.close()


class Fails(Drift):
    """Does what it is told to in its first step."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act

    def step(self, action: Any) -> Any:
        self.act()
        return super().step(action)


def burst() -> None:
    raise ValueError("the pipe burst")


def run_out_of_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refused() -> Drift:
    raise ValueError("no license")


@pytest.mark.parametrize(
    ("act", "message"),
    [(burst, r"(?s)Traceback.*in burst.*ValueError: the pipe burst"), (run_out_of_memory, "-9")],
)
def test_what_goes_wrong_in_a_process_is_said_and_ends_all(
    act: Callable[[], object], message: str
) -> None:
    pool = EnvironmentPool(processes=2)
    with pytest.raises(EnvironmentProcessError, match=message):
        _play(partial(Fails, act), None, pool.take)
    assert multiprocessing.active_children() == []
    envs = pool.take(Drift, 2, lambda: None)
    assert envs.reset(seed=[0, 1])[0].shape == (2, 3)  # type: ignore[arg-type]
    envs.close()
    pool.close()


def test_what_goes_wrong_while_environments_are_made_ends_all() -> None:
    with pytest.raises(EnvironmentProcessError, match="ValueError: no license"):
        EnvironmentProcesses(refused, 2, 2)
    assert multiprocessing.active_children() == []
    calls: list[float] = []

    def leave() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:  # once before each process, then while they start
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EnvironmentProcesses(partial(time.sleep, 600), 2, 2, leave)  # type: ignore[arg-type]
    assert multiprocessing.active_children() == []
    assert time.monotonic() - calls[-1] < ALIVE_SECONDS


def test_processes_leave_ctrl_c_to_the_first_one() -> None:
    envs = EnvironmentProcesses(Drift, 2, 2)
    seeds: Any = [0, 1]
    envs.reset(seed=seeds)
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
    assert envs.step(np.zeros((2, 2), np.float32))[1].shape == (2,)
    envs.close()


def test_processes_end_with_the_first_one_even_where_it_is_killed() -> None:
    script = (
        "import multiprocessing, os, signal\n"
        "from services.actor.environment_processes import EnvironmentProcesses\n"
        "from tests.services.actor.test_rollout import Drift\n"
        "envs = EnvironmentProcesses(Drift, 2, 2)\n"
        "print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = {int(pid) for pid in ended.stdout.split()}
    assert len(left) == 2
    deadline = time.monotonic() + ALIVE_SECONDS
    while left := {pid for pid in left if _runs(pid)}:
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
