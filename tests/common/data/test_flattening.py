"""Observations become vectors: dictionaries in the order of their keys, and what is no vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from common.data import load_episodes
from common.data.flattening import flattening
from ldcq.config import DataConfig
from ldcq.data.episodes import DataError
from tests.common.data.samples import BOX, FLAT, UMAZE, episode, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_dictionary_observations_are_flattened_in_the_order_of_the_keys(tmp_path: Path) -> None:
    space = spaces.Dict(
        {
            "speed": spaces.Box(-9, 9, (1,)),
            "camera": spaces.Box(0, 9, (2, 2)),
            "gear": spaces.Discrete(3, start=1),
            "arm": spaces.Dict({"joint": spaces.Box(-9, 9, (2,))}),
        }
    )
    observations: dict[str, Any] = {
        "speed": np.array([[1], [2], [3]], np.float32),
        "camera": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
        "gear": np.array([1, 3, 2]),
        "arm": {"joint": np.array([[5, 6], [7, 8], [9, 9]], np.float32)},
    }
    actions = np.zeros((2, 2), np.float32)
    write("ours/dict-v0", space, BOX, {"observations": observations, "actions": actions})
    everything = load_episodes(DataConfig(dataset="ours/dict-v0"), tmp_path)
    assert everything.observations[1].tolist() == [7, 8, 4, 5, 6, 7, 0, 0, 1, 2]
    keys = ("speed", "arm")
    chosen = load_episodes(DataConfig(dataset="ours/dict-v0", observation_keys=keys), tmp_path)
    assert chosen.observations.tolist() == [[1, 5, 6], [2, 7, 8], [3, 9, 9]]
    single = {
        key: value[1] if not isinstance(value, dict) else {"joint": value["joint"][1]}
        for key, value in observations.items()
    }
    assert flattening(space, keys, "here").single(single).tolist() == [2, 7, 8]


def test_wrong_observation_keys_say_what_there_is(umaze_store: Path, tmp_path: Path) -> None:
    wrong = UMAZE.model_copy(update={"observation_keys": ("observatoin",)})
    with pytest.raises(DataError, match=r"no 'observatoin'; .* achieved_goal, desired_goal, obs"):
        load_episodes(wrong, umaze_store)
    write("ours/flat-v0", FLAT, BOX, episode(4))
    keyed = DataConfig(dataset="ours/flat-v0", observation_keys=("x",))
    with pytest.raises(DataError, match="no dictionary"):
        load_episodes(keyed, tmp_path)


def test_keys_may_leave_out_what_is_no_vector() -> None:
    vector, image = spaces.Box(-9, 9, (2,)), spaces.Box(0, 255, (84, 84, 3), np.uint8)
    others = {"camera": image, "said": spaces.Text(9), "flags": spaces.MultiBinary(3)}
    space = spaces.Dict({"position": vector, "long": spaces.Box(-1, 1, (5000,)), **others})
    assert flattening(space, ("position",), "here").size == 2
    for key, said in (
        ("camera", "images are not flattened. frames={} comp"),
        ("long", "4096"),
        ("flags", "MultiBinary"),
    ):
        with pytest.raises(DataError, match=f"here: observation '{key}' are .*{said}.*leave it"):
            flattening(space, ("position", key), "here")
    with pytest.raises(DataError, match=r"'camera'.*naming the others in data\.observation_keys"):
        flattening(space, None, "here")
    with pytest.raises(DataError, match=r"here: observations are of shape \(84, 84, 3\)"):
        flattening(image, None, "here")
    with pytest.raises(DataError, match="'position' is given twice"):
        flattening(space, ("position", "position"), "here")


def test_a_key_may_have_a_dot_in_it() -> None:
    space = spaces.Dict({"arm.left": spaces.Box(-9, 9, (2,)), "b": spaces.Box(-9, 9, (1,))})
    flat = flattening(space, ("arm.left",), "here")
    assert flat.single({"arm.left": [1, 2], "b": [3]}).tolist() == [1, 2]
