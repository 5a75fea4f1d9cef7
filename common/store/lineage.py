"""What decides a result: nothing is trained twice, and different things never mix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from common.stages import STAGES, ancestors
from ldcq.config import Config, resolve_variant

FORMAT = 2
"""Of what artifacts hold. Raised where those of before cannot be read: they are then made again."""


def stage_sections(config: Config, kind: str) -> dict[str, JsonValue]:
    """The parts of a variant's own configuration that decide a result of `kind`, given its parents:
    a JSON tree of the keys that matter, nested as in the configuration, and `FORMAT`.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in STAGES:
        raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(STAGES)}")
    tree, paths = config.model_dump(mode="json"), STAGES[kind].sections
    if kind in ("frames", "vae", "bc") and config.data.episode_steps is not None:
        paths += ("data.episode_steps",)
    if kind == "prior":
        if config.prior.goal_conditioned:
            paths += ("data.goal_indices",)
        else:
            for key in ("goal_conditioned", "goal_drop_probability", "hindsight_steps"):
                del tree["prior"][key]
        chosen = config.prior.implementation
        tree["prior"]["options"] = tree["prior"]["options"].get(chosen, {})
    if kind == "critic" and config.critic.candidate_source == "online":
        del tree["critic"]["cached_candidates"]
    if kind == "evaluation":
        del tree["evaluation"]["video"], tree["evaluation"]["report"]
        if _acts_by_goals(config):
            paths += ("data.goal_indices",)
        if any(method.policy == "behaviour" for method in config.evaluation.methods.values()):
            tree["data"]["reward"] = _decides_scores(tree["data"]["reward"])
            paths += ("data.reward",)
    if kind in ("vae", "bc"):
        tree["data"]["reward"] = _decides_windows(tree["data"]["reward"])
        paths += ("data.reward",)
    if "data.reward" in paths and "goal" in (tree["data"]["reward"] or {}):
        paths += ("data.goal_indices",)
    sections: dict[str, JsonValue] = {"format": FORMAT}
    for path in paths:
        source, target = tree, sections
        *parents, last = path.split(".")
        for part in parents:
            source = source[part]
            child = target.setdefault(part, {})
            assert isinstance(child, dict)
            target = child
        target[last] = source[last]
    actors = _other_actors(config) if kind == "evaluation" else {}
    return {**sections, "variants": actors} if actors else sections


def _decides_scores(reward: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a relabelling decides what the data score themselves (`DataConfig.scored`)."""
    if reward is None or reward["kind"] in ("recorded", "ogbench"):  # read: in the fingerprint
        return None
    return {key: value for key, value in reward.items() if key not in ("shift", "scale", "once")}


def _decides_windows(reward: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a relabelling decides which windows there are, for stages that see no rewards: all
    that decides where the task is done, if episodes end there. Else only that the data's own
    terminations do not count, so that one VAE does for all goals.
    """
    scored = _decides_scores(reward)
    if scored is None:
        return None
    if not scored["terminates"]:
        return {"terminates": False}
    return {key: value for key, value in scored.items() if key != "kind"}


def _other_actors(config: Config) -> dict[str, JsonValue]:
    """How variants are executed that are not executed as the main pipeline is."""
    found: dict[str, JsonValue] = {}
    for variant in sorted(_played(config) & {*config.variants}):
        own = resolve_variant(config, variant)
        different: dict[str, JsonValue] = {}
        if own.actor != config.actor:
            different["actor"] = own.actor.model_dump(mode="json")
        if _acts_by_goals(config) and own.data.goal_indices != config.data.goal_indices:
            different["data"] = {"goal_indices": list(own.data.goal_indices)}
        if different:
            found[variant] = different
    return found


def _played(config: Config) -> set[str]:
    return {method.variant for method in config.evaluation.methods.values()}


def _acts_by_goals(config: Config) -> bool:
    """Whether a method looks for its goal in the state: LDCP does, and whoever chooses anew more
    often near it. What LDGC pursues is decided by its prior.
    """
    near = {config.variant: config.actor.near_goal}
    for variant in _played(config) & {*config.variants}:
        near[variant] = resolve_variant(config, variant).actor.near_goal
    methods = config.evaluation.methods.values()
    return any(method.policy == "ldcp" or near.get(method.variant) for method in methods)


def stage_spec(config: Config, kind: str, parents: Mapping[str, str]) -> dict[str, JsonValue]:
    """What decides a stage's result; an artifact with an equal spec need not be made again.

    Args:
        config: The variant's own configuration.
        kind: A key of `STAGES`.
        parents: Fingerprint of the dataset and versions of the artifacts it is made from, by kind.
    """
    return {"config": stage_sections(config, kind), "parents": dict(parents)}


def owning_variant(base: Config, variant: str, kind: str) -> str:
    """Whose pipeline makes the `kind` that `variant` uses: the main one where `variant` configures
    `kind` and all its ancestors as that does, so that it is trained once and shared.

    Raises:
        ConfigError: There is no such variant.
    """
    own = resolve_variant(base, variant)
    if ancestors(kind, own) != ancestors(kind, base):
        return variant
    for ancestor in (*ancestors(kind, own), kind):
        if stage_sections(own, ancestor) != stage_sections(base, ancestor):
            return variant
    return base.variant
