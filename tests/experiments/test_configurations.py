from pathlib import Path
from typing import get_args

import pytest

from common.data.loading import ensure_dataset
from common.store import Store, stage_sections
from experiments import NAMES
from experiments.configurations import configuration, need_dataset, unlike_paper
from experiments.experiment import Scale
from experiments.horizon import with_horizon
from experiments.registry import find
from experiments.steps import settings_of, with_settings
from experiments.tasks import GOAL_METHODS
from ldcq.config import ConfigError, load, override
from ldcq.diffusion.options import DiffusionOptions

SCALES = get_args(Scale)
PIPELINES = ("maze2d", "door-human", "horizon", "steps")
TRAINED = ("vae", "latents", "prior", "critic")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_knows_its_data_and_seeds_at_every_scale(name: str, scale: Scale) -> None:
    experiment = find(name)
    assert experiment.name == name
    task = experiment.tasks[0] if experiment.tasks else None
    config = configuration(experiment.settings or name, scale, None, experiment.methods, task)
    assert config.data.dataset
    assert experiment.seeds[scale] >= (1 if scale == "smoke" else 3)


def test_a_file_of_a_body_changes_what_it_names_for_its_tasks_alone() -> None:
    walker, hopper = (
        configuration("locomotion", "small", task=f"{body}-medium").actor
        for body in ("walker2d", "hopper")
    )
    assert (walker.candidates, walker.sampling.temperature) == (5, 0.25)
    assert (hopper.candidates, hopper.sampling.temperature) == (20, None)
    assert walker.sampling.steps == hopper.sampling.steps == 20


@pytest.mark.parametrize("name", [name for name in NAMES if find(name).tasks])
def test_a_task_s_settings_are_its_own_under_those_of_the_scale(name: str) -> None:
    experiment = find(name)
    for task in experiment.tasks:
        small = configuration(name, "small", None, experiment.methods, task)
        full = configuration(name, "full", None, experiment.methods, task)
        assert small.task is not None
        assert small.task.generated is not None
        assert (small.data.dataset, small.data.generate) == (
            small.task.generated.dataset, small.task.generated.by,
        )  # fmt: skip
        assert small.evaluation.episodes * experiment.seeds["small"] >= 100
        assert (small.evaluation.score, small.evaluation.reference_scores) == (
            full.evaluation.score, full.evaluation.reference_scores,
        )  # fmt: skip
        assert not {"horizon", "vae.encoder", "critic.target"} & unlike_paper(full, task).keys()


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("scale", ["small", "full"])
def test_scores_that_count_come_from_a_hundred_episodes(name: str, scale: Scale) -> None:
    assert configuration(name, scale).evaluation.episodes >= 100


def test_full_is_thepaper_values_setting() -> None:
    paper, full = load("paper"), configuration("maze2d", "full", methods=GOAL_METHODS)
    for section in ("vae", "prior", "critic", "actor", "world_model", "bc"):
        assert getattr(full, section) == getattr(paper, section)
    assert (full.horizon, full.discount) == (paper.horizon, paper.discount)


def test_every_key_that_differs_from_thepaper_values_is_told_with_both_values() -> None:
    assert unlike_paper(load("paper")) == {}
    told = unlike_paper(load("demo", ["evaluation.video=false", "seed=7", "training.log_every=3"]))
    assert told["vae.encoder"] == ("mlp", "gru")
    assert told["prior.options.diffusion.blocks"] == (
        "[64, 64, 64, 64]", "[128, 32, 16, 8, 16, 32, 128]",
    )  # fmt: skip
    assert told["data.generate.maze"] == ("medium", None)
    assert told["lengths"] == ("[10, 20]", "[]")
    assert told["critic.dueling"] == (True, False)
    # The same as the implementation's default, which the preset does not spell out.
    assert "prior.options.diffusion.drop_probability" not in told
    assert not {"name", "seed", "training.log_every", "evaluation.video"} & told.keys()
    variant = load("demo", ["variants={bcq_h: {prior.implementation: gaussian, seed: 3}}"])
    assert unlike_paper(variant)["variants.bcq_h.seed"] == (3, None)


def test_another_dataset_is_taken_as_it_is() -> None:
    config = configuration("maze2d", "small", "D4RL/pointmaze/large-v2", GOAL_METHODS)
    assert config.data.dataset == "D4RL/pointmaze/large-v2"
    assert config.data.generate is None


@pytest.mark.parametrize("horizon", [1, 5, 30])
def test_a_horizon_lowers_what_it_bounds_and_nothing_else(horizon: int) -> None:
    base = configuration("horizon", "small")
    changed = with_horizon(base, horizon)
    assert changed.horizon == horizon
    assert changed.lengths == tuple(k for k in (10, 20) if k < horizon)
    assert changed.vae == override(base, {"vae.decoded_steps": min(horizon, 8)}).vae
    assert changed.actor == base.actor
    bounded = override(base, {"actor.execute_steps": 10})
    lowered = override(base, {"actor.execute_steps": min(horizon, 10)})
    assert with_horizon(bounded, horizon).actor == lowered.actor
    assert changed.critic == base.critic
    assert changed.prior == base.prior


def test_settings_of_the_sampler_share_everything_trained() -> None:
    base = configuration("steps", "small")
    chosen = settings_of("small", DiffusionOptions.of(base.prior).steps)
    assert len({setting.variant for setting in chosen}) == len(chosen)
    assert {setting.extra_steps for setting in chosen} == {0, 10}
    config = with_settings(base, chosen)
    for kind in TRAINED:
        assert stage_sections(config, kind) == stage_sections(base, kind)
    assert stage_sections(config, "evaluation") != stage_sections(base, "evaluation")


def test_no_more_steps_than_were_trained() -> None:
    assert max(setting.steps for setting in settings_of("small", 20)) == 20


@pytest.mark.parametrize(("scale", "other"), [("small", "horizon"), ("full", "maze2d")])
def test_steps_find_the_models_of_another_experiment(scale: Scale, other: str) -> None:
    steps, methods = configuration("steps", scale), GOAL_METHODS if other == "maze2d" else None
    trained = with_horizon(configuration(other, scale, methods=methods), steps.horizon)
    for kind in TRAINED:
        assert stage_sections(trained, kind) == stage_sections(steps, kind)


def test_a_dataset_without_a_goal_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    walk = override(
        load("demo"),
        {
            "data.dataset": "ldcq/random-walk-v0",
            "data.generate": {"kind": "random_walk", "steps": 600},
            "data.observation_keys": None,
        },
    )
    store = Store(tmp_path)
    need_dataset(walk, store, goals=True)  # to be generated: what is asked for is known to fit
    ensure_dataset(walk.data, store.root, lambda _done, _total: None)
    need_dataset(walk, store)
    with pytest.raises(ConfigError, match=r"random-walk-v0.*expected a maze that goes on"):
        need_dataset(walk, store, goals=True)
