"""Configurations are read, merged and checked; what is wrong is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ldcq.config import (
    Config,
    ConfigError,
    PointMazeConfig,
    RandomWalkConfig,
    dump,
    load,
    override,
    resolve_variant,
)
from ldcq.diffusion.options import DiffusionOptions
from ldcq.gaussian import GaussianOptions


def _write(folder: Path, text: str, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_paper_preset_holds_the_numbers_of_the_papers_tables() -> None:
    config = load("paper")
    assert (config.horizon, config.discount) == (30, 0.995)

    vae = config.vae  # Table 5
    assert (vae.encoder, vae.learning_rate, vae.epochs, vae.batch_size) == ("gru", 5e-5, 100, 128)
    assert (vae.latent_dim, vae.beta, vae.hidden) == (16, 0.05, 256)

    prior = config.prior  # Table 6; T = 200 is section 5.4's
    assert (prior.learning_rate, prior.epochs, prior.batch_size) == (1e-4, 300, 32)
    diffusion = DiffusionOptions.of(prior)
    assert (diffusion.steps, diffusion.schedule) == (200, "linear")
    assert (diffusion.drop_probability, diffusion.min_snr_gamma) == (0.1, 5.0)
    assert prior.sampling.extra_steps == 10

    critic = config.critic  # Table 7
    assert (critic.learning_rate, critic.batch_size) == (5e-4, 128)
    assert (critic.target_update_rate, critic.candidates) == (0.005, 500)
    assert (critic.replay.alpha, critic.replay.beta) == (0.7, 0.3)
    assert (critic.replay.beta_growth, critic.replay.beta_growth_every) == (0.03, 3000)
    assert critic.hidden == (256, 256, 256, 32)
    assert critic.candidate_source == "online"


def test_the_paper_preset_spells_out_what_the_priors_alone_have() -> None:
    options = load("paper").prior.options
    defaults = {"diffusion": DiffusionOptions(), "gaussian": GaussianOptions()}
    assert options == {name: own.model_dump(mode="json") for name, own in defaults.items()}


def test_the_demo_preset_generates_its_data_and_compares_four_methods() -> None:
    config = load("demo")
    assert isinstance(config.data.generate, PointMazeConfig)
    assert (config.data.generate.maze, config.data.generate.steps) == ("medium", 100_000)
    assert list(config.evaluation.methods) == ["ldcq", "bcq_h", "prior", "behaviour"]
    assert config.vae.encoder == "mlp"
    assert resolve_variant(config, "bcq_h").prior.implementation == "gaussian"


def test_a_section_of_another_kind_replaces_the_one_before(tmp_path: Path) -> None:
    path = _write(tmp_path, "base: demo\ndata: {generate: {kind: random_walk, steps: 9}}")
    assert load(path).data.generate == RandomWalkConfig(steps=9)
    same = _write(tmp_path, "base: demo\ndata: {generate: {steps: 9}}")
    assert load(same).data.generate == PointMazeConfig(maze="medium", steps=9)


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_the_configurations_in_the_repository_are_the_presets(name: str) -> None:
    folder = Path(__file__).parents[3] / "configs"
    assert load(folder / f"{name}.yaml") == load(name)


@pytest.mark.parametrize("source", ["paper", "demo"])
def test_what_is_dumped_loads_to_an_equal_configuration(source: str, tmp_path: Path) -> None:
    config = load(source, ["seed=7", "vae.beta=0.1"])
    assert load(_write(tmp_path, dump(config))) == config
    assert "beta_growth_every" in dump(config)  # defaults are spelled out


def test_a_base_is_a_preset_or_a_file_beside_whose_sections_are_merged(tmp_path: Path) -> None:
    _write(tmp_path, "base: demo\nvae: {epochs: 7}\nseed: 1\n", "mine.yaml")
    config, demo = load(_write(tmp_path, "base: mine.yaml\nseed: 2\n")), load("demo")
    assert (config.seed, config.vae.epochs, config.vae.hidden) == (2, 7, demo.vae.hidden)
    assert (config.variants, config.evaluation) == (demo.variants, demo.evaluation)


def test_a_base_may_be_several_each_a_change_of_those_before(tmp_path: Path) -> None:
    task, small = load("hopper-medium"), load("small")
    config = load(_write(tmp_path, "base: [hopper-medium, small]\nseed: 2\n"))
    assert (config.data, config.horizon, config.task) == (task.data, task.horizon, task.task)
    assert (config.vae, config.critic, config.bc) == (small.vae, small.critic, small.bc)
    assert config.seed == 2
    assert load(["hopper-medium", "small"], ["seed=2", "name=base"]) == load(
        _write(tmp_path, "base: [hopper-medium, small]\nseed: 2\nname: base\n")
    )


@pytest.mark.parametrize("base", ["3", "{demo: 1}", "[demo, 3]"])
def test_a_base_that_names_nothing_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"base: .* in .*; expected a name or file, or a list"):
        load(_write(tmp_path, f"base: {base}\n"))


ONE_METHOD = "{mine: {policy: ldcq}}"


def test_files_and_overrides_follow_one_rule(tmp_path: Path) -> None:
    """Sections are merged; methods, variants and lists are replaced, and so can be dropped."""
    text = f"base: demo\nvariants: {{}}\nevaluation: {{episodes: 3, methods: {ONE_METHOD}}}\n"
    text += "lengths: [5]\nactor: {support: {kept: 0.2}}\n"
    changes = [
        "variants={}",
        f"evaluation={{episodes: 3, methods: {ONE_METHOD}}}",
        "lengths=[5]",
        "actor={support: {kept: 0.2}}",
    ]
    dotted = ["variants={}", "evaluation.episodes=3", f"evaluation.methods={ONE_METHOD}"]
    dotted += ["lengths=[5]", "actor.support.kept=0.2"]
    config = load(_write(tmp_path, text))
    # In an order in which no method is left without its variant.
    assert config == load("demo", changes) == load("demo", dotted)
    assert (config.variants, [*config.evaluation.methods], config.lengths) == ({}, ["mine"], (5,))
    support = config.actor.support
    assert support is not None
    assert (support.quantile, support.kept) == (0.9, 0.2)
    assert config.evaluation.environments == load("demo").evaluation.environments


def test_another_dataset_takes_over_nothing_that_was_said_of_the_one_before(tmp_path: Path) -> None:
    """Else a typo generates a maze under the name of somebody's data."""
    text = "base: demo\nevaluation: {environment: Maze-v0, reference_scores: [0, 9]}\n"
    _write(tmp_path, text, "mine.yaml")
    other = load(_write(tmp_path, "base: mine.yaml\ndata: {dataset: mine/other-v0}\n"))
    by_override = load(tmp_path / "mine.yaml", ["data.dataset=mine/other-v0"])
    for config in (other, by_override):
        data, scored = config.data, config.evaluation
        assert (data.generate, data.observation_keys, data.goal_indices) == (None, None, ())
        assert (scored.environment.id, scored.reference_scores) == (None, None)
        assert scored.episodes == load("demo").evaluation.episodes


def test_an_environment_is_a_string_or_a_section() -> None:
    """And written as it was before it was a section, where its id is all that is given."""
    demo = load("demo")
    by_string = override(demo, {"evaluation.environment": "Maze-v0"})
    assert by_string == override(demo, {"evaluation.environment": {"id": "Maze-v0"}})
    written = by_string.model_dump(mode="json")["evaluation"]["environment"]
    assert (written, by_string.evaluation.environment.kwargs) == ("Maze-v0", {})
    assert demo.model_dump(mode="json")["evaluation"]["environment"] is None
    whole = {"id": "Maze-v0", "kwargs": {"maze_map": [[1, "g"]]}, "max_episode_steps": 9}
    config = override(demo, {"evaluation.environment": {**whole, "wrappers": ["ours.maze:Wall"]}})
    environment = config.evaluation.environment
    assert (environment.kwargs, environment.wrappers) == (whole["kwargs"], ("ours.maze:Wall",))
    assert Config.model_validate(yaml.safe_load(dump(config))) == config
    other = override(config, {"evaluation.environment": {"id": "Other-v0"}})
    assert other.evaluation.environment.kwargs == {}  # they were another one's
    other = override(config, {"evaluation.environment.kwargs": {"size": 3}})
    assert other.evaluation.environment.kwargs == {"size": 3}
    assert override(config, {"evaluation.environment": None}) == demo


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("3", "evaluation.environment: got 3, expected a Gymnasium id, or a section of id, kwargs"),
        ("{name: X}", "evaluation.environment.name: unknown key"),
        ("{kwargs: 3}", "evaluation.environment.kwargs: got 3; expected a section"),
        ("{kwargs: {id: X}}", "evaluation.environment.kwargs: got 'id', expected arguments of"),
        ("{kwargs: {render_mode: human}}", "kwargs: got 'render_mode', expected none"),
        ("{wrappers: [Halved]}", "wrappers: got 'Halved', expected package.module:Callable"),
        ("{max_episode_steps: 0}", "max_episode_steps: got 0"),
    ],
)
def test_an_environment_that_cannot_be(environment: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load("demo", [f"evaluation.environment={environment}"])
    assert message in str(error.value)


def test_data_that_are_generated_anew_are_of_the_same_kind(tmp_path: Path) -> None:
    text = "base: demo\ndata: {dataset: mine/own-v0, generate: {steps: 5}}\n"
    config, demo = load(_write(tmp_path, text)), load("demo")
    assert config.data.generate is not None
    assert (config.data.generate.steps, config.data.generate.kind) == (5, "pointmaze")
    assert config.data.observation_keys == demo.data.observation_keys


def test_what_overrides_say_of_the_dataset_holds_in_any_order() -> None:
    changes = ["data.goal_indices=[0]", "data.dataset=mine/other-v0"]
    assert load("demo", changes).data.goal_indices == (0,)


def test_a_key_of_a_section_that_is_null_is_refused() -> None:
    """Else the rest of the section would be made up."""
    changes = ["data.dataset=mine/other-v0", "data.generate.steps=5"]
    with pytest.raises(ConfigError, match=r"data\.generate\.steps: data\.generate is null"):
        load("demo", changes)


def test_a_method_can_be_added_by_name() -> None:
    config = load("demo", ["evaluation.methods.bc={policy: bc}"])
    assert [*config.evaluation.methods] == [*load("demo").evaluation.methods, "bc"]


def test_a_base_that_is_its_own_ancestor_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "base: b.yaml\n", "a.yaml")
    _write(tmp_path, "base: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match="is its own ancestor"):
        load(tmp_path / "a.yaml")


def test_overrides_are_yaml_values_applied_last() -> None:
    config = load(
        "demo",
        [
            "vae.epochs=3",
            "critic.hidden=[8, 8]",
            "data.generate=null",
            "name=x",
            "actor.candidates=1",
        ],
    )
    assert (config.vae.epochs, config.critic.hidden, config.name) == (3, (8, 8), "x")
    assert config.data.generate is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("vae.epoch=3", "vae.epoch: unknown key; did you mean 'epochs'?.*allowed here: .*beta"),
        ("veo.epochs=3", "veo: unknown key; did you mean 'vae'?"),
        ("data.generate.noize=1", "data.generate.noize: unknown key; did you mean 'noise'?"),
        ("data.generate={kind: random_walk, noise: 1}", "noise: unknown key.*kind, seed, steps"),
        ("data.generate.maze=tiny", "data.generate.maze: .*umaze, medium, large, or a map"),
        ("data.generate.maze=['###', '#R ', '###']", "data.generate.maze: the border is open"),
        ("evaluation.methods.ldcq.varant=x", "did you mean 'variant'?"),
        ("vae.epochs=0", "vae.epochs: got 0; .*greater than 0"),
        ("vae.epochs=many", "vae.epochs: got 'many'; .*integer"),
        ("discount=1.5", "discount: got 1.5; .*less than or equal to 1"),
        ("discount=.nan", "discount: got nan; .*finite number"),
        ("vae.encoder=lstm", "vae.encoder: got 'lstm'; .*'gru' or 'mlp'"),
        ("critic.hidden=[]", "critic.hidden: got "),
        ("data.validation_fraction=1", "data.validation_fraction: got 1; .*less than 1"),
        ("actor.execute_steps=31", r"actor.execute_steps is 31, expected at most horizon \(30\)"),
        ("vae.decoded_steps=31", "vae.decoded_steps is 31, expected at most horizon"),
        ("prior.diffusion.steps=5", "prior.diffusion: unknown key; .*write prior.options.diff"),
        ("prior.gaussian={hidden: [8]}", "prior.gaussian: .* write prior.options.gaussian"),
        ("variants.bcq_h={prior.gaussian.hidden: [8]}", "write prior.options.gaussian"),
        ("prior.epoch=3", "prior.epoch: unknown key; did you mean 'epochs'?"),
        ("prior.options.diffusion=5", "prior.options.diffusion: got 5; expected a section"),
        (
            "critic={target: max_min, candidate_source: cache, candidates: 501}",
            "candidates is 501, expected at most cached_candidates",
        ),
        ("critic.candidate_source=cache", "expected 'online', since target 'expectile_return'"),
        ("critic.fourier_octaves=3", "critic.fourier_octaves: unknown key"),
        ("critic.target=expectile_data", "dueling is true, expected false, since .* makes V of Q"),
        ("critic.networks=1", "critic.networks: got 1; .*greater than or equal to 2"),
        ("lengths=[20, 10]", r"lengths is \[20, 10\], expected different numbers .* ascending"),
        ("lengths=[30]", r"\[30\], expected .* below horizon \(30\).*: set lengths to \[\]"),
        ("horizon=20", r"lengths is \[10, 20\], .* below horizon \(20\).*: set lengths to \[10\]"),
        ("lengths=[10, 10]", r"lengths is \[10, 10\], .*: set lengths to \[10\]"),
        ("lengths=[0]", "lengths.0: got 0; .*greater than 0"),
        ("lengths=ten", r"lengths: got 'ten'; expected a list, such as \[1, 2\]"),
        ("critic.target=max_min", r"'max_min', expected one of the V-network .* \[10, 20\]"),
        ("critic.target=max_min", r"set one of these, or lengths to \[\]"),
        ("critic.bounds=wide", r"critic.bounds: got 'wide'; expected a list"),
        ("critic.bounds=[1]", r"critic.bounds.1: got \[1\]; .*required"),
        ("critic.bounds=[a, 1]", "critic.bounds.0: got 'a'; .*number"),
        ("critic.bins=11", "bounds is null, expected two numbers, since bins is 11"),
        ("critic.expectile=1", "critic.expectile: got 1; .*less than 1"),
        ("critic.deviations=-1", "critic.deviations: got -1; .*greater than or equal to 0"),
        ("critic.fourier_features=-1", "critic.fourier_features: got -1; .*greater than or equal"),
        ("actor.support.quantile=2", "actor.support.quantile: got 2; .*less than or equal to 1"),
        ("actor.lookahead=2", "actor.lookahead: got 2; .*less than or equal to 1"),
        ("world_model.rewards=false", "expected true, since actor.lookahead is 0.5: set it, or"),
        ("actor.support.kept=.nan", "actor.support.kept: got nan; .*finite number"),
        ("critic={windows: null, reward_windows: 0.5}", "windows is null, expected a number"),
        ("actor.near_goal={distance: 1, execute_steps: 31}", "near_goal.execute_steps is 31"),
        (
            "prior.goal_conditioned=true",
            "'ldcq', expected 'ldgc' or 'ldcp': 'main' has",
        ),
        (
            "variants={bcq_h: {seed: 1}}",
            "'bcq_h', expected 'ldcq', or prior.impl.*'diff",
        ),
        (
            "evaluation.methods.x.policy=ldgc",
            "x.policy is 'ldgc', expected 'prior', or pri",
        ),
        ("evaluation.methods.x.policy=best", "x.policy: got 'best'; .*'ldcq', 'bcq_h', 'ldgc'"),
        ("evaluation.methods.prior.variant=x", "methods.prior.variant is 'x', expected one of"),
        ("variants.main.seed=1", "variants.main is given, expected any other name"),
        ("variants.bcq_h={vae.epoch: 3}", "vae.epoch: unknown key"),
        ("seed.x=1", "'seed' is not a section"),
        ("seed", "expected KEY=VALUE"),
        ("seed={", "not valid YAML"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(change: str, complaint: str) -> None:
    overrides = [change] if not change.startswith("seed.") else ["seed=1", change]
    with pytest.raises(ConfigError, match=complaint):
        load("demo", overrides)


def test_policies_follow_the_prior_they_are_over() -> None:
    goals = "variants.goals={prior.goal_conditioned: true}"
    method = "evaluation.methods.x={policy: %s, variant: goals}"
    for policy in ("ldgc", "ldcp", "bc", "behaviour"):
        config = load("demo", [goals, method % policy])
        assert config.evaluation.methods["x"].policy == policy
    with pytest.raises(ConfigError, match=r"x\.policy is 'prior', expected 'ldgc': 'goals' "):
        load("demo", [goals, method % "prior"])
    swapped = load("demo", ["prior.implementation=gaussian"])  # LDCQ's rule over any prior
    assert swapped.evaluation.methods["ldcq"].policy == "ldcq"
    assert load("demo", ["prior.implementation=gaussian", "evaluation.methods.x.policy=bcq_h"])


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load("demo", ["vae.epochs=0", "prior.epochs=0"])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "vae.epochs",
        "prior.epochs",
    ]


def test_a_missing_file_and_a_file_that_is_no_configuration_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere' not found.*\(demo, paper, small\)"):
        load("nowhere")
    with pytest.raises(ConfigError, match="expected keys and values, got list"):
        load(_write(tmp_path, "- 1\n"))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(_write(tmp_path, "a: [\n"))


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(_write(tmp_path, "")) == Config()


def test_a_variant_is_the_configuration_with_its_keys_replaced() -> None:
    config = load("demo")
    variant = resolve_variant(config, "bcq_h")
    expected = override(config, {"prior.implementation": "gaussian", "variant": "bcq_h"})
    assert variant == expected
    assert resolve_variant(variant, "bcq_h") is variant
    assert resolve_variant(config, "main") is config
    with pytest.raises(ConfigError, match="'bcq' is not defined; expected one of main, bcq_h"):
        resolve_variant(config, "bcq")


def test_a_configuration_does_not_change() -> None:
    config = load("demo")
    with pytest.raises(ValidationError):
        config.seed = 3
    assert override(config, {"seed": 3}).seed == 3
    assert config.seed == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=true", "^seed is True, expected a number"),
        ("discount=true", "^discount is True, expected a number"),
        ("critic.hidden=[true, 3]", r"^critic: hidden is \[True, 3\], expected a number"),
        ("seed=18446744073709551616", "seed: got 18446744073709551616; .*less than 922"),
        ("threads=2147483648", "threads: got 2147483648; .*less than or equal to 1024"),
        ("seed=2024-13-45", "--set seed=2024-13-45: not valid YAML"),
        ("seed=!!bool x", "--set seed=!!bool x: not valid YAML"),
        ("seed=0b_", "--set seed=0b_: not valid YAML"),
        ("vae={epochs: 3, epochs: 4}", "not valid YAML: found the key 'epochs' twice"),
        ("vae=" + "[" * 4000, "not valid YAML"),
        ("data.generate={kind: ant_maze, homing: 1}", "homing: got 1; .*less than 1"),
    ],
)
def test_what_yaml_lets_through_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("demo", [text])


def test_numbers_may_be_written_as_people_write_them() -> None:
    assert load("demo", ["vae.learning_rate=1e-4"]).vae.learning_rate == 1e-4


def test_a_section_that_is_written_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("vae: {epochs: 3}\nprior: {}\nvae: {hidden: 3}\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml: .*found the key 'vae' twice"):
        load(tmp_path / "twice.yaml")


def test_a_name_that_no_file_can_have_is_not_found() -> None:
    with pytest.raises(ConfigError, match="not found: expected a YAML file or a preset"):
        load("x" * 300)
