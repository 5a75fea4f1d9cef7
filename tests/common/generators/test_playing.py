"""Episodes of several processes: the same as of one, resumed, and cut off where the steps end."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from common.data.minari_writing import EpisodeArrays
from common.generators.playing import play
from tests.command import PATIENCE


@dataclass(frozen=True)
class Settings:
    steps: int
    folder: Path | None = None
    seed: int = 3


class Walker:
    """Episodes of 5 to 9 steps, with dictionaries; says in a folder which it played."""

    environment: gymnasium.Env[Any, Any]
    evaluation: Any
    metadata: dict[str, Any]

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.folder

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        random = np.random.default_rng(seed)
        steps = int(random.integers(5, 10))
        if self._folder is not None:
            (self._folder / str(seed.spawn_key[0])).touch()
        return EpisodeArrays(
            observations={"position": random.standard_normal((steps + 1, 2))},
            actions=random.standard_normal((steps, 1)).astype(np.float32),
            rewards=np.arange(steps, dtype=np.float64),
            terminations=np.arange(steps) == steps - 1,
            truncations=np.zeros(steps, np.bool_),
            infos={"speed": random.standard_normal(steps + 1)},
        )


class Sleeper(Walker):
    """Says in a folder who it is, and plays for ever."""

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        assert self._folder is not None
        (self._folder / str(os.getpid())).touch()
        time.sleep(PATIENCE)
        return super().episode(seed)


class Broken(Walker):
    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        raise ValueError(f"episode {seed.spawn_key[0]} is broken")


def digest(episodes: Iterable[EpisodeArrays]) -> str:
    state = hashlib.sha256()
    for episode in episodes:
        for value in vars(episode).values():
            for array in value.values() if isinstance(value, dict) else [value]:
                state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def test_processes_change_nothing_and_the_last_episode_is_cut_off(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    one = list(play(Walker, Settings(40), tmp_path / "1", lambda *done: told.append(done), 1))
    two = play(Walker, Settings(40), tmp_path / "2", lambda *_: None, 2)
    assert digest(one) == digest(two)
    assert sum(len(episode.rewards) for episode in one) == 40
    assert told[-1] == (40, 40)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    last = one[-1]
    assert isinstance(last.observations, dict)
    assert len(last.observations["position"]) == len(last.rewards) + 1
    assert (last.terminations | last.truncations)[-1]
    assert all(episode.terminations[-1] for episode in one[:-1])


def test_an_interrupted_call_goes_on_with_what_it_has(tmp_path: Path) -> None:
    played, parts = tmp_path / "played", tmp_path / "parts"
    played.mkdir()
    settings = Settings(40, played)
    whole = digest(play(Walker, settings, tmp_path / "whole", lambda *_: None, 1))
    episodes = play(Walker, settings, parts, lambda *_: None, 1)
    for _ in range(3):
        next(episodes)
    episodes.close()  # type: ignore[attr-defined]
    kept = {int(file.stem) for file in parts.glob("*.npz")}
    assert kept >= {0, 1, 2}
    for file in played.iterdir():
        file.unlink()
    assert digest(play(Walker, settings, parts, lambda *_: None, 1)) == whole
    assert not kept & {int(file.name) for file in played.iterdir()}, "played once more"


def test_a_damaged_part_is_played_once_more(tmp_path: Path) -> None:
    settings = Settings(40)
    whole = digest(play(Walker, settings, tmp_path, lambda *_: None, 1))
    (tmp_path / "0000001.npz").write_bytes(b"PK")
    assert digest(play(Walker, settings, tmp_path, lambda *_: None, 1)) == whole


def test_an_error_of_a_player_ends_the_call(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="episode 0 is broken"):
        next(play(Broken, Settings(40), tmp_path, lambda *_: None, 1))
    assert not list(tmp_path.glob("*.npz"))


PLAYING = """
import sys
from pathlib import Path
from common.generators.playing import play
from tests.common.generators.test_playing import Settings, Sleeper

if __name__ == "__main__":
    played, parts = map(Path, sys.argv[1:])
    list(play(Sleeper, Settings(40, played), parts, lambda *_: None, 2))
"""


def test_players_end_with_the_process_that_is_killed(tmp_path: Path) -> None:
    script, played = tmp_path / "playing.py", tmp_path / "played"
    script.write_text(PLAYING)
    played.mkdir()
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script), str(played), str(tmp_path / "parts")]
    with subprocess.Popen(command, env=known) as process:
        try:
            _wait_until(lambda: len([*played.iterdir()]) == 2)
        finally:
            process.send_signal(signal.SIGKILL)
    players = [int(file.name) for file in played.iterdir()]
    _wait_until(lambda: not any(map(_runs, players)))


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
