"""The check of a GPU, on a CPU as far as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from campaigns import gpu_check, gpu_steps
from campaigns.gpu_page import DATA, GOALS, PAGE, page
from campaigns.gpu_steps import Found, Step, steps, training_rates
from campaigns.gpu_wheels import PROJECT, requirements
from ldcq.config import load

RESULT = '{"summary": {"actors_ratio_joined": 0.5}, "rows": [{"a": 1}], "notes": ["a note"]}'
FINE = Step("serving", "benchmark serving", ("-c", f"print('''{RESULT}''')"), 60)
WRONG = Step("demo", "the demo", ("-c", "raise SystemExit('no such thing')"), 60)
SLOW = Step("tests", "tests", ("-c", "import time; time.sleep(60)"), 0.5)


def test_a_step_that_fails_or_takes_too_long_costs_the_others_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    found = gpu_check.run([SLOW, WRONG, FINE], tmp_path, 60, told.append)
    assert next(found).exit_code is None
    content = json.loads((tmp_path / DATA).read_text())
    assert [step["name"] for step in content["steps"]] == ["tests"], "written at once"
    assert [each.exit_code for each in found] == [1, 0]
    text = (tmp_path / PAGE).read_text()
    for part in ("not finished after 1 s", "no such thing", "`actors_ratio_joined` **0.5**"):
        assert part in text
    assert "| 32 actors, joined, of one draw as large | 0.5 | at least 0.8 |" in text
    assert "the demo: exit code 1 in 0 s" in told


def test_what_no_time_is_left_for_is_not_started(tmp_path: Path) -> None:
    [found] = gpu_check.run([FINE], tmp_path, 0, lambda _: None)
    assert (found.exit_code, found.result, found.said) == (
        None,
        None,
        "there was no time left for it",
    )


def test_every_goal_is_a_figure_that_its_step_gives(tmp_path: Path) -> None:
    """By the names that the benchmarks give their rows, on a GPU as here."""
    names = {step.name for step in steps("cuda", tmp_path)}
    assert {goal.step for goal in GOALS} <= names
    row: dict[str, Any] = {"trainer": "prior ldcq", "updates_per_second": 7.0}
    result = {"summary": {}, "rows": [{**row, "trainer": "vae ldcq"}, row], "notes": []}
    found = {"training-paper": Found("training-paper", "", "", 1.0, 0, result, "")}
    values = {goal.what: goal.value(found) for goal in GOALS}
    assert values["prior of the paper: updates/s"] == 7.0
    assert [name for name, value in values.items() if value is not None] == [
        "prior of the paper: updates/s",
        "VAE of the paper: updates/s",
    ]
    assert "| VAE of the paper: updates/s | 7 | at least 200 |" in page(
        {"processor": "p", "cores": 2, "torch": "t", "python": "3"}, list(found.values())
    )


def test_the_tests_that_need_a_gpu_are_all_named() -> None:
    marked = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "tests").rglob("test_*.py")
        if "mark.gpu" in path.read_text() and path != Path(__file__)
    }
    assert marked == set(gpu_steps.TESTS)


def test_the_paper_s_sizes_are_run_on_data_made_here() -> None:
    config, paper = gpu_steps.paper_on_generated_data(), load("paper")
    assert config.data == load("demo").data
    assert (config.vae.hidden, config.prior.options) == (paper.vae.hidden, paper.prior.options)
    assert (config.critic.updates, config.critic.candidates) == (gpu_steps.UPDATES, 500)


@pytest.mark.xdist_group("pipeline")
@pytest.mark.timeout(300)
def test_rates_are_read_from_the_store(finished: tuple[Path, dict[str, Any]]) -> None:
    rows = training_rates(finished[0])["rows"]
    assert {row["model"] for row in rows} == {"vae", "prior", "critic"}
    assert all(row["updates_per_second"] > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_check_says_so() -> None:
    command = [sys.executable, "-m", "campaigns.gpu_check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch sees no CUDA device" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("name", ["torch", "ldcq["])
def test_the_torch_that_is_there_stays(name: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = requirements(project)
    assert not any(line.startswith(name) for line in wanted)
    assert any(line.startswith("mujoco") for line in wanted)
