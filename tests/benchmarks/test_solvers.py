"""The benchmark of solvers: modes on the random walk, support and junctions, and a small run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import solvers
from benchmarks.solver_plot import on_front
from benchmarks.solver_subject import Setting, train_walk_prior, walk_coverage
from benchmarks.support import Junctions, Support, exit_shares
from common.data import Layout
from ldcq.config import Config, SamplingConfig, dump, load
from ldcq.data.latents import LatentTable
from ldcq.prior import Sampler
from tests.services.actor.conftest import Pipeline, pipeline

__all__ = ["pipeline"]


def _walk_config(**prior: Any) -> Config:
    overrides = ["prior.options.diffusion.steps=50", "prior.options.diffusion.blocks=[32, 32]"]
    return load("demo", [*overrides, *(f"prior.{key}={value}" for key, value in prior.items())])


@pytest.fixture(scope="module")
def walk() -> Sampler:
    torch.set_num_threads(1)
    return train_walk_prior(_walk_config(), updates=1000)


@pytest.mark.parametrize("steps", [20, 50])
@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp_2m"])
def test_both_modes_of_the_walk_are_met_and_not_what_lies_between(
    walk: Sampler, solver: str, steps: int
) -> None:
    gap, right = walk_coverage(walk, SamplingConfig(solver=solver, steps=steps))
    assert gap < 0.03
    assert right == pytest.approx(0.5, abs=0.06)


def test_a_gaussian_prior_falls_into_the_gap() -> None:
    """What the diffusion prior is for (supplement D), and that the measure sees it."""
    gaussian = train_walk_prior(_walk_config(implementation="gaussian"), updates=200)
    gap, _ = walk_coverage(gaussian, SamplingConfig())
    assert gap > 0.4


def _table(state: Any, latent: Any, moved: Any) -> LatentTable:
    """Every fourth window held out; latents exact."""
    rows = len(state)
    nothing = np.zeros(rows, dtype=np.float32)
    return LatentTable(
        state=state.astype(np.float32),
        latent_mean=latent.astype(np.float32),
        latent_std=np.zeros_like(latent, dtype=np.float32),
        reward=nothing,
        discount=nothing,
        next_state=(state + moved).astype(np.float32),
        episode=np.arange(rows),
        step=np.zeros(rows, dtype=np.int64),
        validation=np.arange(rows) % 4 == 0,
    )


CROSSING = Layout(
    walls=np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=bool),
    cell_size=1.0,
    origin=(-1.5, 1.5),
    goal=None,
    position_indices=(0, 1),
)
"""Ways east, north and west from the middle."""

DIRECTIONS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


@pytest.fixture(scope="module")
def crossing() -> LatentTable:
    """Latents that say where to go: 10 times the direction, give or take 0.3."""
    random = np.random.default_rng(0)
    state = random.uniform([-1.5, -0.5], [1.5, 0.5], (4000, 2))
    way = DIRECTIONS[random.integers(3, size=4000)]
    return _table(state, 10 * way + 0.3 * random.standard_normal((4000, 2)), way)


def test_junctions_are_held_out_states_in_the_middle_of_a_crossing(crossing: LatentTable) -> None:
    junctions = Junctions.find(crossing, CROSSING, 50)
    assert len(junctions.rows) == 50
    assert crossing.validation[junctions.rows].all()
    assert np.abs(junctions.states).max() < 0.25


def test_latents_lead_where_their_nearest_windows_led(crossing: LatentTable) -> None:
    starts = Junctions.find(crossing, CROSSING, 20).states
    latents = np.repeat(10 * DIRECTIONS[[0, 0, 0, 1]][None], len(starts), axis=0)
    _, rows = Support(crossing).nearest(starts, latents.astype(np.float32))
    assert not crossing.validation[rows].any()
    shares = exit_shares(crossing, CROSSING, starts, rows)
    np.testing.assert_allclose(shares, np.tile([0.75, 0.25, 0, 0], (20, 1)))


def test_nearest_is_what_a_search_of_all_windows_finds(crossing: LatentTable) -> None:
    support, random = Support(crossing), np.random.default_rng(1)
    states, latents = random.normal(size=(3, 2)), random.normal(size=(3, 5, 2)) * 8
    distances, rows = support.nearest(states, latents)
    training = np.flatnonzero(~crossing.validation)
    scales = crossing.state[training].std(axis=0) / 2, crossing.latent_mean[training].std(axis=0)
    for state, of_state, least, row in zip(states, latents, distances, rows, strict=True):
        for latent, expected, found in zip(of_state, least, row, strict=True):
            apart = np.concatenate(
                [
                    (crossing.state[training] - state) / scales[0],
                    (crossing.latent_mean[training] - latent) / scales[1],
                ],
                axis=1,
            )
            squares = np.square(apart).sum(axis=1)
            assert training[squares.argmin()] == found
            assert np.sqrt(squares.min()) == pytest.approx(expected, rel=1e-3)


def test_only_what_is_far_from_the_data_is_outside(crossing: LatentTable) -> None:
    support = Support(crossing)
    held_out = crossing.validation
    states, data = crossing.state[held_out], crossing.latent_mean[held_out][:, None]
    assert support.outside(states, data).mean() == pytest.approx(0.01, abs=0.005)
    assert support.outside(states, np.zeros_like(data)).all()  # between the modes


def test_front_holds_what_nothing_beats() -> None:
    rows = [
        {"seconds_1": seconds, "return": score}
        for seconds, score in ((1.0, 5.0), (2.0, 4.0), (3.0, 9.0), (3.0, 8.0), (4.0, 9.0))
    ]
    assert on_front(rows, "return") == [True, False, True, False, False]


def test_a_setting_passes_only_with_the_modes_the_maxima_and_the_return() -> None:
    base = {"walk_gap": 0.0, "q_rank": 0.95, "q_bias": 0.0, "q_error": 0.1}
    base |= {"return": 50.0, "return_low": 40.0}
    good = {"walk_gap": 0.01, "exits_covered": 1.0, "q_rank": 0.93, "q_bias": 0.05, "return": 45.0}
    assert solvers.passes(base, base, "return")
    assert solvers.passes(good, base, "return")
    for worse in (
        {"walk_gap": 0.1},
        {"exits_covered": 0.8},
        {"q_rank": 0.5},
        {"q_bias": 0.3},
        {"q_bias": -0.3},
        {"return": 30.0},
    ):
        assert not solvers.passes({**good, **worse}, base, "return")


def test_speedups_are_of_the_reference_over_the_fastest_that_passes(tmp_path: Path) -> None:
    same = {"walk_gap": 0.0, "exits_covered": 1.0, "q_rank": 0.95, "q_bias": 0.0, "q_error": 0.1}
    rows = [
        {"solver": name, "steps": steps, "n": 5, "seconds_1": seconds, "walk_gap": gap}
        | {"return": score, "return_low": score - 5, "return_high": score + 5}
        for name, steps, seconds, gap, score in (
            ("ddim", 2, 0.01, 0.5, 49.0),
            ("ddim", 5, 0.02, 0.0, 48.0),
            ("ddpm", 10, 0.08, 0.0, 50.0),
        )
    ]  # fmt: skip
    rows = [{**same, **row} for row in rows]
    summary = solvers._result(rows, Setting("ddpm", 10), tmp_path).summary
    assert summary == pytest.approx(
        {"fastest_passing_speedup": 4.0, "fastest_passing_return_difference": -2.0,
         "fastest_speedup": 8.0}
    )  # fmt: skip


def test_solvers_are_read_as_names_and_steps() -> None:
    assert [(s.solver, s.steps) for s in solvers.parse_settings(["a=1,20", "b_2m=3"])] == [
        ("a", 1),
        ("a", 20),
        ("b_2m", 3),
    ]
    for wrong in ("ddim", "ddim=", "=5", "ddim=5;6"):
        with pytest.raises(ValueError, match="expected NAME=STEPS"):
            solvers.parse_settings([wrong])


def test_small_run_gives_every_setting_its_figures(pipeline: Pipeline, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump(pipeline.config))
    result = solvers.run(
        str(config),
        str(pipeline.store.root),
        solvers=["ddim=2"],
        candidates=[2, 6],
        episodes=2,
        out=str(tmp_path / "out"),
        rounds=1,
        walk_updates=5,
    )
    assert [(row["solver"], row["steps"], row["n"]) for row in result.rows] == [
        ("ddim", 2, 2),
        ("ddim", 2, 6),
        ("ddpm", 10, 2),
        ("ddpm", 10, 6),
    ]
    for row in result.rows:
        assert 0 <= row["walk_gap"] <= 1
        assert -1 <= row["q_rank"] <= 1
        assert "first_hit" in row
    with (tmp_path / "out" / "solvers.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert (tmp_path / "out" / "solvers.png").read_bytes().startswith(b"\x89PNG")


def test_solver_that_the_prior_does_not_have_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump(pipeline.config))
    with pytest.raises(ValueError, match="solver is 'euler', expected one of ddpm"):
        solvers.run(str(config), str(pipeline.store.root), solvers=["euler=2"], walk_updates=5)
    with pytest.raises(ValueError, match="--solver ddim=20: steps is 20, expected 1 to 10"):
        solvers.run(str(config), str(pipeline.store.root), solvers=["ddim=20"], walk_updates=5)


def test_default_steps_end_with_those_of_the_prior(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump(pipeline.config))
    asked: list[Setting] = []

    def latencies(_subject: Any, settings: list[Setting], *_: Any) -> None:
        asked.extend(settings)
        raise InterruptedError

    monkeypatch.setattr(solvers, "_latencies", latencies)
    with pytest.raises(InterruptedError):
        solvers.run(str(config), str(pipeline.store.root), walk_updates=5)
    assert [(setting.solver, setting.steps) for setting in asked] == [
        *(("ddpm", 5), ("ddpm", 10), ("ddim", 5), ("ddim", 10)),
        *(("dpmpp_2m", 3), ("dpmpp_2m", 5), ("dpmpp_2m", 10)),
    ]
