"""What decides a result, and who owns it."""

from __future__ import annotations

import hashlib

import pytest

from common.stages import STAGES
from common.store import digest, owning_variant, stage_sections, stage_spec
from ldcq.config import Config, load, override

KINDS = [*STAGES]


@pytest.fixture
def demo() -> Config:
    return load("demo")


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("seed", 7, {"frames", "vae", "prior", "candidates", "critic", "world_model", "bc"}),
        ("threads", 2, {"frames", "vae", "prior", "critic", "world_model", "bc"}),
        ("horizon", 25, {"vae", "latents"}),
        ("lengths", [10], {"latents", "critic"}),
        ("discount", 0.9, {"latents", "critic"}),
        ("data.dataset", "other/data-v0", {"frames", "vae", "bc"}),
        ("data.observation_keys", ["achieved_goal"], {"frames", "vae", "bc"}),
        ("data.validation_fraction", 0.2, {"frames", "vae", "bc"}),
        ("frames", {"epochs": 1}, {"frames"}),
        ("vae.epochs", 1, {"vae"}),
        ("vae.decoder", "independent", {"vae"}),
        ("prior.options.diffusion.steps", 50, {"prior"}),
        ("prior.options.gaussian.hidden", [8], set()),
        ("prior.hindsight_steps", 5, set()),
        ("data.goal_indices", [1, 0], set()),
        ("critic.updates", 5, {"critic"}),
        ("critic.windows", 5, {"critic", "candidates"}),
        ("world_model.epochs", 1, {"world_model"}),
        ("bc.epochs", 1, {"bc"}),
        ("bc.decoder", "independent", {"bc"}),
        ("actor.candidates", 5, {"evaluation"}),
        ("actor.support", None, {"evaluation"}),
        ("actor.lookahead", 0, {"evaluation"}),
        ("actor.planning.depth", 1, {"evaluation"}),
        ("evaluation.video", False, set()),
        ("evaluation.report", False, set()),
        ("evaluation.episodes", 3, {"evaluation"}),
        ("evaluation.environment", "Maze-v0", {"evaluation"}),
        ("evaluation.environment", {"kwargs": {"maze": "umaze"}}, {"evaluation"}),
        ("evaluation.environment", {"wrappers": ["ours.maze:Wall"]}, {"evaluation"}),
        ("evaluation.environment", {"max_episode_steps": 9}, {"evaluation"}),
        ("evaluation.score", "success", {"evaluation"}),
        ("training.checkpoint_every", 3, set()),
        ("training.log_every", 3, set()),
        ("training.keep_checkpoints", 3, set()),
        ("name", "x", set()),
        ("data.download", True, set()),
        ("data.generate.seed", 5, set()),
        ("variants", {}, set()),
    ],
)
def test_a_key_changes_the_sections_it_decides_and_no_others(
    demo: Config, key: str, value: object, changed: set[str]
) -> None:
    changes = {key: value}
    if key == "variants":
        method = {"evaluation.methods": {"ldcq": {"policy": "ldcq"}}}
        demo, changes = override(demo, method), {**changes, **method}
    other = override(demo, changes)
    found = {kind for kind in KINDS if stage_sections(demo, kind) != stage_sections(other, kind)}
    assert found == changed


def test_artifacts_of_another_format_are_made_again(
    demo: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {kind: stage_sections(demo, kind) for kind in KINDS}
    monkeypatch.setattr("common.store.lineage.FORMAT", -1)
    assert not [kind for kind in KINDS if stage_sections(demo, kind) == before[kind]]


def test_only_the_chosen_prior_counts(demo: Config) -> None:
    gaussian = override(demo, {"prior.implementation": "gaussian"})
    changed = override(gaussian, {"prior.options.diffusion.steps": 50})
    assert stage_sections(gaussian, "prior") == stage_sections(changed, "prior")
    foreign = stage_sections(override(demo, {"prior.implementation": "theirs"}), "prior")["prior"]
    assert isinstance(foreign, dict)
    assert foreign["options"] == {}
    assert {"learning_rate", "epochs", "implementation"} <= set(foreign)


def test_what_goals_are_counts_only_where_a_prior_is_conditioned_on_them(demo: Config) -> None:
    changes = {"prior.goal_conditioned": True, "evaluation.methods": {}}
    goals = override(demo, changes)
    assert stage_sections(goals, "prior") != stage_sections(demo, "prior")
    for key, value in (("data.goal_indices", [1, 0]), ("prior.hindsight_steps", 5)):
        other = override(goals, {key: value})
        assert stage_sections(other, "prior") != stage_sections(goals, "prior")
        assert stage_sections(other, "latents") == stage_sections(demo, "latents")


def test_where_goals_are_counts_for_an_evaluation_that_looks_for_them(demo: Config) -> None:
    """And for no other: what a prior was conditioned on is in its own sections."""
    near = {"distance": 1.0, "execute_steps": 5}
    method, gaussian = {"policy": "ldcp"}, {"prior.implementation": "gaussian"}
    looking = [
        override(demo, {"actor.near_goal": near}),
        override(demo, {"evaluation.methods": {"ldcp": method}}),
        override(demo, {"variants": {"bcq_h": {**gaussian, "actor.near_goal": near}}}),
    ]
    for config in looking:
        other = override(config, {"data.goal_indices": [1, 0]})
        assert stage_sections(other, "evaluation") != stage_sections(config, "evaluation")
    changes = {**gaussian, "actor.near_goal": near, "data.goal_indices": [1, 0]}
    own = {"variants": {"bcq_h": changes}}
    found = stage_sections(override(demo, own), "evaluation")["variants"]
    assert isinstance(found, dict)
    assert found["bcq_h"]["data"] == {"goal_indices": [1, 0]}  # type: ignore[index, call-overload]


REWARD = {"kind": "sparse", "goal": [1, 2]}


@pytest.mark.parametrize(
    ("key", "value", "terminates", "changed"),
    [
        ("data.reward.shift", -1.0, False, {"latents"}),
        ("data.reward.scale", 2.0, True, {"latents"}),
        ("data.reward.goal", [2, 2], False, {"latents", "evaluation"}),
        ("data.reward.goal", [2, 2], True, {"vae", "latents", "bc", "evaluation"}),
        ("data.reward.threshold", 0.1, False, {"latents", "evaluation"}),
        ("data.reward.threshold", 0.1, True, {"vae", "latents", "bc", "evaluation"}),
        ("data.goal_indices", [1, 0], False, {"latents", "evaluation"}),
        ("data.goal_indices", [1, 0], True, {"vae", "latents", "bc", "evaluation"}),
        ("data.reward.kind", "step_cost", True, {"latents", "evaluation"}),
        ("data.reward.terminates", True, False, {"vae", "latents", "bc", "evaluation"}),
        ("data.reward", {"kind": "recorded"}, False, {"vae", "latents", "bc", "evaluation"}),
        ("data.reward", None, False, {"vae", "latents", "bc", "evaluation"}),
    ],
)
def test_rewards_decide_latents_and_where_episodes_end_by_them_all_windows(
    demo: Config, key: str, value: object, terminates: bool, changed: set[str]
) -> None:
    """Critic and prior are made from latents. The data's own score is of the rewards as the task
    has them, whatever a critic makes of these.
    """
    given = {"data.reward": {**REWARD, "terminates": terminates}}
    if key == "data.reward.kind":
        key, value = "data.reward", {**REWARD, "terminates": terminates, "kind": value}
    base = override(demo, given)
    other = override(base, {key: value})
    found = {kind for kind in KINDS if stage_sections(base, kind) != stage_sections(other, kind)}
    assert found == changed


def test_recorded_rewards_decide_no_windows(demo: Config) -> None:
    shifted = override(demo, {"data.reward": {"kind": "recorded", "shift": -1.0}})
    found = {kind for kind in KINDS if stage_sections(demo, kind) != stage_sections(shifted, kind)}
    assert found == {"latents"}


def test_an_evaluation_without_the_datas_own_score_sees_no_rewards(demo: Config) -> None:
    alone = override(demo, {"evaluation.methods": {"ldcq": {"policy": "ldcq"}}})
    other = override(alone, {"data.reward": REWARD})
    assert stage_sections(alone, "evaluation") == stage_sections(other, "evaluation")


def test_a_variant_with_rewards_of_its_own_owns_what_looks_at_them(demo: Config) -> None:
    shifted = {"data.reward": {"kind": "recorded", "shift": -1.0}}
    base = override(demo, {"variants": {**demo.variants, "costs": shifted}})
    owned = {kind for kind in KINDS if owning_variant(base, "costs", kind) == "costs"}
    assert owned == {*KINDS} - {"frames", "vae", "bc"}


def test_the_size_of_a_cache_counts_only_where_there_is_one(demo: Config) -> None:
    searching = {"lengths": [], "critic.target": "max_min"}
    demo = override(demo, {**searching, "critic.candidate_source": "cache"})
    bigger = {"critic.cached_candidates": 600}
    assert stage_sections(override(demo, bigger), "critic") != stage_sections(demo, "critic")
    online = override(demo, {"critic.candidate_source": "online"})
    assert stage_sections(override(online, bigger), "critic") == stage_sections(online, "critic")


def test_spec_holds_the_parents_and_has_a_stable_digest(demo: Config) -> None:
    spec = stage_spec(demo, "prior", {"vae": "a", "latents": "b"})
    assert spec["parents"] == {"vae": "a", "latents": "b"}
    assert spec["config"] == stage_sections(demo, "prior")
    assert digest(spec) == digest(stage_spec(demo, "prior", {"latents": "b", "vae": "a"}))
    assert digest(spec) != digest(stage_spec(demo, "prior", {"latents": "b", "vae": "c"}))
    expected = hashlib.sha256(b'{"a":[1.5,null],"b":1}').hexdigest()[:16]
    assert digest({"b": 1, "a": [1.5, None]}) == expected


def test_a_variant_owns_what_it_configures_and_all_that_follows(demo: Config) -> None:
    owners = {kind: owning_variant(demo, "bcq_h", kind) for kind in KINDS}
    assert owners == {
        "frames": "main",
        "vae": "main",
        "latents": "main",
        "prior": "bcq_h",
        "candidates": "bcq_h",
        "critic": "bcq_h",
        "world_model": "main",
        "bc": "main",
        "evaluation": "bcq_h",
    }
    assert {owning_variant(demo, "main", kind) for kind in KINDS} == {"main"}


def test_a_variant_with_another_vae_owns_everything_made_from_it(demo: Config) -> None:
    base = override(demo, {"variants": {**demo.variants, "small": {"vae.latent_dim": 4}}})
    owned = {kind for kind in KINDS if owning_variant(base, "small", kind) == "small"}
    assert owned == set(KINDS) - {"frames", "bc"}


def test_a_variant_with_other_frames_owns_everything(demo: Config) -> None:
    for base in (demo, override(demo, {"frames": {}})):
        changes = {"variants": {"other": {"frames": {"latent_dim": 4}}}, "evaluation.methods": {}}
        other = override(base, changes)
        owned = {kind for kind in KINDS if owning_variant(other, "other", kind) == "other"}
        assert owned == set(KINDS)


def test_an_unknown_kind_is_refused(demo: Config) -> None:
    with pytest.raises(ValueError, match="kind: got 'actor', expected one of frames, vae"):
        stage_sections(demo, "actor")


def test_how_a_variant_is_executed_counts_for_the_evaluation_and_for_no_model(
    demo: Config,
) -> None:
    faster = {"prior.implementation": "gaussian", "actor.sampling.steps": 5}
    other = override(demo, {"variants": {"bcq_h": faster}})
    assert stage_sections(other, "evaluation") != stage_sections(demo, "evaluation")
    assert {
        kind for kind in KINDS if stage_sections(demo, kind) != stage_sections(other, kind)
    } == {"evaluation"}
    unused = override(demo, {"variants.unused": faster})
    assert stage_sections(unused, "evaluation") == stage_sections(demo, "evaluation")
