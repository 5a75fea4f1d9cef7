"""What a run is refused for, in real commands: by the launcher, before any process is started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cli.checks import check_task
from cli.main import main
from cli.supervisor import Supervisor
from ldcq.config import load
from tests.cli.refused import Refused
from tests.cli.test_errors import write_hdf5
from tests.command import TINY
from tests.common.data.test_refusals import NAME, write
from tests.test_tasks import write_d4rl

KEYS = ["--set", f"data.dataset={NAME}", "--set", "data.observation_keys=[observation]"]


@pytest.fixture(autouse=True)
def _no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(Supervisor, "__init__", started)


@pytest.mark.parametrize("command", [["config"], ["run"], ["train", "vae"]])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "prior.options.diffusion.step=3",
            "prior.options.diffusion.step: unknown key; did you mean 'steps'?",
        ),
        (
            "variants.bcq_h={prior.implementation: gaussian, prior.options.gaussian.hiden: [3]}",
            "prior.options.gaussian.hiden: unknown key; did you mean 'hidden'?",
        ),
        (
            "prior.options.difusion.steps=3",
            "prior.options.difusion: no prior of that name; did you mean 'diffusion'?",
        ),
        (
            "prior.options.diffusion.octaves=17",
            "prior.options.diffusion.octaves: got 17; Input should be less than or equal to 16",
        ),
        ("prior.sampling.solver=ddpmm", "prior.sampling.solver is 'ddpmm', expected one of ddpm"),
        ("critic.sampling.nulled=goal", "critic.sampling.nulled is 'goal', expected state"),
        ("actor.sampling.steps=99", "actor.sampling.steps is 99, expected 1 to 10, the steps of"),
    ],
)
def test_settings_that_only_a_prior_knows(
    refused: Refused, tmp_path: Path, command: list[str], setting: str, message: str
) -> None:
    store = [] if command == ["config"] else ["--store", tmp_path / "store"]
    assert message in refused(*command, TINY, *store, "--set", setting)
    assert not (tmp_path / "store").exists()


def test_a_prior_that_is_not_installed_is_no_mistake_of_the_configuration_itself(
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    theirs = ["--set", "prior.implementation=theirs", "--set", "prior.options.theirs.x=1"]
    monkeypatch.setattr(sys, "argv", ["ldcq", "config", str(TINY), *theirs])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "implementation: theirs" in capfd.readouterr().out
    message = refused("run", TINY, "--store", tmp_path / "store", *theirs)
    assert "prior.implementation is 'theirs', expected one of diffusion, gaussian" in message


def test_the_file_of_another_task(refused: Refused, tmp_path: Path) -> None:
    path, store = tmp_path / "hopper_medium-v2.hdf5", tmp_path / "store"
    write_d4rl(load("hopper-medium", [f"data.dataset={path}"]), path, 11, 3)
    message = refused("run", "walker2d-medium", "--store", store, "--set", f"data.dataset={path}")
    assert "Walker2d-v5 has states of 17 dimensions and actions of 6 dimensions" in message
    assert f"{path} has states of 11 dimensions and actions of 3 dimensions" in message
    given = ["--store", store, "--set", f"data.dataset={path}"]
    message = refused("run", "hopper-medium", *given, "--set", "evaluation.score=success")
    assert "evaluation.score: got 'success', but the info of Hopper-v5 has none" in message
    goals = ["--set", "data.goal_indices=[0, 1]", "--set", "prior.goal_conditioned=true"]
    goals += ["--set", "evaluation.methods={ldgc: {policy: ldgc}}", "--set", "variants={}"]
    message = refused("run", "hopper-medium", *given, *goals)
    assert "Hopper-v5 has no goals (no `desired_goal`), but evaluation.methods.ldgc" in message
    assert not (store / "run").exists()


def test_goals_that_differ_and_rewards_of_others(refused: Refused, tmp_path: Path) -> None:
    write(tmp_path, (1.0, -1.0))
    given = ["run", TINY, "--store", tmp_path, *KEYS]
    assert "belong to the goal [1.0, -1.0], and the evaluated goal is" in refused(*given)
    nothing = refused(*given, "--set", "evaluation.methods={}")
    assert "belong to the goal [1.0, -1.0], and the evaluated goal is" in nothing
    own = ["--set", "variants.bcq_h={data.reward: null}", "--set", "data.reward={kind: recorded}"]
    assert "belong to the goal [1.0, -1.0], and the" in refused(*given, *own)
    recorded = [*given, "--set", "data.reward={kind: recorded}"]
    random = ["--set", "evaluation.environment=PointMaze_UMaze-v3"]
    assert "the goals of PointMaze_UMaze-v3 differ" in refused(*recorded, *random)
    three = ["--set", "data.goal_indices=[0, 1, 2]"]
    pursuing = [*three, "--set", "evaluation.methods={ldcp: {policy: ldcp}}"]
    message = refused(*recorded, *pursuing, "--set", "variants={}")
    assert "has goals of 2 entries, but evaluation.methods.ldcp pursues goals of 3" in message
    beyond = [part.replace("1, 2", "4") for part in pursuing]
    message = refused(*recorded, *beyond, "--set", "variants={}")
    assert "data.goal_indices is [0, 4], expected entries of a state of " in message
    assert not (tmp_path / "run").exists()


def test_an_environment_that_cannot_be_made_for_data_that_are_not_here_yet(
    refused: Refused, tmp_path: Path
) -> None:
    given = ["run", TINY, "--store", tmp_path]
    unknown = refused(*given, "--set", "evaluation.environment=NoSuchTask-v0")
    assert "'NoSuchTask-v0' cannot be made" in unknown
    cost = ["--set", "evaluation.methods={ldcp: {policy: ldcp}}", "--set", "variants={}"]
    cost += ["--set", "data.goal_indices=[]"]
    assert "actor.planning.cost is 'euclidean', expected data.goal" in refused(*given, *cost)
    assert not (tmp_path / "run").exists()


def test_data_without_an_environment_need_no_gymnasium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_hdf5(tmp_path / "plain.hdf5")
    loaded: dict[str, Any] = {name: None for name in sys.modules if "gymnasium" in name}
    for name in ("gymnasium", "gymnasium_robotics", "common.data.flat_environment", *loaded):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    check_task(load("paper", [f"data.dataset={path}"]), tmp_path)
    check_task(load("paper", [f"data.dataset={path}", "evaluation.methods={}"]), tmp_path)


def test_data_that_are_nowhere_and_what_a_task_needs(refused: Refused, tmp_path: Path) -> None:
    store = tmp_path / "store"
    given = ["run", "hopper-medium", "--store", store, "--set", "data.dataset=nothing.hdf5"]
    assert "data.dataset: no file nothing.hdf5; expected a file of D4RL" in refused(*given)
    message = refused("run", TINY, "--store", store, "--set", "data.generate=null")
    assert "on this machine. " in message
    assert not (store / "run").exists()
