"""Which processes a run consists of."""

from __future__ import annotations

from pathlib import Path

from cli.plan import Planner, ProcessSpec, needed_variants
from common.config import Config, load


def _planner(config: Config, replicas: int = 1) -> Planner:
    return Planner(config, Path("config.yaml"), "/store", replicas)


def _names(specs: list[ProcessSpec]) -> list[str]:
    return [spec.name for spec in specs]


def _option(spec: ProcessSpec, name: str) -> list[str]:
    command = spec.command
    return [command[i + 1] for i, part in enumerate(command) if part == name]


def test_a_whole_run_shares_the_vae_between_variants_and_doubles_what_differs() -> None:
    specs = _planner(load("demo")).whole_run()
    assert _names(specs) == [
        *("vae", "prior-trainer", "prior-trainer@bcq_h"),
        *("prior-0", "prior-0@bcq_h", "critic", "critic@bcq_h", "actor"),
    ]
    assert [spec.name for spec in specs if spec.ends] == ["prior-trainer", "prior-trainer@bcq_h"]
    assert not any(spec.reports for spec in specs if spec.name.startswith("prior-0"))


def test_addresses_are_distinct_and_callers_know_all_replicas_of_each_variant() -> None:
    specs = {spec.name: spec for spec in _planner(load("demo"), replicas=3).whole_run()}
    assert len({spec.address for spec in specs.values()}) == len(specs)
    expected = [
        "main=" + ",".join(specs[f"prior-{i}"].address for i in range(3)),
        "bcq_h=" + ",".join(specs[f"prior-{i}@bcq_h"].address for i in range(3)),
    ]
    for caller in ("critic", "critic@bcq_h", "actor"):
        assert _option(specs[caller], "--prior") == expected


def test_variants_that_no_method_uses_are_not_run() -> None:
    config = load(
        "demo",
        ["variants.unused={horizon: 10}", "evaluation.methods.bcq_h.policy=behaviour"],
    )
    assert needed_variants(config) == ["main"]
    assert not any("@" in spec.name for spec in _planner(config).whole_run())


def test_a_variant_with_another_horizon_has_a_vae_of_its_own() -> None:
    config = load(
        "demo",
        [
            "variants.short={horizon: 10}",
            "evaluation.methods.short={policy: ranked, variant: short}",
        ],
    )
    names = _names(_planner(config).whole_run())
    assert {"vae", "vae@short", "prior-0@short", "critic@short"} <= set(names)


def test_a_critic_alone_brings_the_prior_servers_it_calls() -> None:
    specs = _planner(load("demo"), replicas=2).stages(["critic"], ["bcq_h"])
    assert _names(specs) == ["prior-0@bcq_h", "prior-1@bcq_h", "critic@bcq_h"]
