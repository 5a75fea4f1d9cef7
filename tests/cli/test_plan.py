"""Which processes a run consists of."""

from __future__ import annotations

from pathlib import Path

from cli.plan import MOST_REPLICAS, Plan, Planner, ProcessSpec, needed_variants
from ldcq.config import Config, load, override


def _planner(config: Config, replicas: int = 1) -> Planner:
    return Planner(config, Path("config.yaml"), Path("/m"), "/store", Path("/s"), replicas)


def _names(plan: Plan) -> list[str]:
    """The processes that a run starts with, its prior servers first."""
    servers = [spec for group in plan.replicas for spec in group.places[: group.count]]
    return [spec.name for spec in (*servers, *plan.processes)]


def _option(spec: ProcessSpec, name: str) -> list[str]:
    command = spec.arguments
    return [command[i + 1] for i, part in enumerate(command) if part == name]


def test_a_whole_run_shares_the_vae_between_variants_and_doubles_what_differs() -> None:
    plan = _planner(load("demo")).whole_run()
    trainers = ["prior-trainer", "prior-trainer@bcq_h", "world_model"]
    assert _names(plan) == [
        *("prior-0", "prior-0@bcq_h"),
        *("vae", *trainers[:2], "critic", "critic@bcq_h", "world_model", "actor"),
    ]
    assert [spec.name for spec in plan.processes if spec.ends] == trainers
    assert plan.goals() == [spec.name for spec in plan.processes]


def test_addresses_are_distinct_and_callers_know_all_places_of_each_variant() -> None:
    plan = _planner(load("demo"), replicas=3).whole_run()
    places = [place for group in plan.replicas for place in group.places]
    everything = (*plan.processes, *places)
    assert len({spec.address for spec in everything}) == len(everything)
    assert len({spec.name for spec in everything}) == len(everything)
    assert [(group.variant, group.count) for group in plan.replicas] == [("main", 3), ("bcq_h", 3)]

    for spec in everything:
        assert _option(spec, "--listen") == [spec.address]
        assert spec.address.startswith("unix:/s/"), "no other program can take it meanwhile"
        assert _option(spec, "--metrics-targets") == [f"/m/{spec.name}.json"]
        assert _option(spec, "--metrics-port") == ["0"]

    main, other = plan.replicas
    expected = [
        "main=" + ",".join(place.address for place in main.places),
        "bcq_h=" + ",".join(place.address for place in other.places),
    ]
    assert expected[0].count("unix:") == MOST_REPLICAS
    processes = {spec.name: spec for spec in plan.processes}
    for caller in ("critic", "critic@bcq_h", "actor"):
        assert _option(processes[caller], "--prior") == expected


def test_without_prior_servers_whoever_draws_loads_the_prior() -> None:
    plan = _planner(load("demo"), replicas=0).whole_run()
    assert plan.replicas == ()
    drawing = {spec.name: given for spec in plan.processes if (given := _option(spec, "--prior"))}
    expected = ["main=in-process", "bcq_h=in-process"]
    assert drawing == dict.fromkeys(("critic", "critic@bcq_h", "actor"), expected)


def test_variants_that_no_method_uses_are_not_run() -> None:
    config = load(
        "demo",
        ["variants.unused={horizon: 10, lengths: []}", "evaluation.methods.bcq_h.policy=behaviour"],
    )
    assert needed_variants(config)["prior"] == ["main"]
    assert not any("@" in name for name in _names(_planner(config).whole_run()))


def test_a_variant_with_another_horizon_has_a_vae_of_its_own() -> None:
    config = load(
        "demo",
        [
            "variants.short={horizon: 10, lengths: []}",
            "evaluation.methods.short={policy: ldcq, variant: short}",
        ],
    )
    names = _names(_planner(config).whole_run())
    assert {"vae", "vae@short", "prior-0@short", "critic@short"} <= set(names)


def test_a_critic_alone_brings_the_prior_servers_it_calls() -> None:
    plan = _planner(load("demo"), replicas=2).stages({"critic": ["bcq_h"]})
    assert _names(plan) == ["prior-0@bcq_h", "prior-1@bcq_h", "critic@bcq_h"]


def test_ldcq_is_trained_where_nothing_is_to_be_scored() -> None:
    plan = _planner(load("demo", ["evaluation.methods={}"])).whole_run()
    expected = ["prior-0", "vae", "prior-trainer", "critic", "world_model", "actor"]
    assert sorted(_names(plan)) == sorted(expected)


def test_images_are_compressed_before_anything_learns_from_them() -> None:
    images = load("demo", ["frames={}"])
    plan = _planner(images).whole_run()
    (frames,) = (spec for spec in plan.processes if spec.name.startswith("frames"))
    assert frames.ends
    assert frames.module == "services.vae.frames"
    shown = {"evaluation.methods": {"behaviour": {"policy": "behaviour"}}, "variants": {}}
    assert _names(_planner(override(images, shown)).whole_run()) == ["frames", "vae", "actor"]


def test_methods_bring_the_stages_they_need_and_no_others() -> None:
    methods = {
        "ldcp": {"policy": "ldcp"},
        "bc": {"policy": "bc", "variant": "bcq_h"},
        "behaviour": {"policy": "behaviour"},
    }
    config = override(load("demo"), {"evaluation.methods": methods, "data.goal_indices": [0, 1]})
    plan = _planner(config).whole_run()
    assert _names(plan) == ["prior-0", "vae", "prior-trainer", "world_model", "bc", "actor"]
    ending = [spec.name for spec in plan.processes if spec.ends]
    assert ending == ["prior-trainer", "world_model", "bc"]
    modules = {spec.name: spec.module for spec in plan.processes}
    assert modules["world_model"] == "services.qlearner.world_model"
    assert modules["bc"] == "services.vae.bc"
    assert [spec.name for spec in plan.processes if "--prior" in spec.arguments] == ["actor"]


def test_a_goal_conditioned_variant_has_no_critic() -> None:
    config = load(
        "demo",
        [
            "data.goal_indices=[0, 1]",
            "variants.ldgc={prior.goal_conditioned: true}",
            "evaluation.methods.ldgc={policy: ldgc, variant: ldgc}",
        ],
    )
    names = _names(_planner(config).whole_run())
    assert {"prior-trainer@ldgc", "prior-0@ldgc", "critic"} <= set(names)
    assert "critic@ldgc" not in names


def test_the_data_alone_need_the_stage_that_makes_them() -> None:
    config = override(load("demo"), {"evaluation.methods": {"behaviour": {"policy": "behaviour"}}})
    assert _names(_planner(config).whole_run()) == ["vae", "actor"]


def test_the_owner_of_a_shared_critic_calls_its_prior_though_no_method_is_the_owners() -> None:
    config = override(
        load("demo"),
        {
            "variants": {"quick": {"actor.sampling.steps": 5}},
            "evaluation.methods": {"quick": {"policy": "ldcq", "variant": "quick"}},
        },
    )
    plan = _planner(config).whole_run()
    assert _names(plan) == ["prior-0", "vae", "prior-trainer", "critic", "world_model", "actor"]
    critic = next(spec for spec in plan.processes if spec.name == "critic")
    target = plan.replicas[0].target
    assert sorted(_option(critic, "--prior")) == [f"main={target}", f"quick={target}"]


def test_the_world_model_is_trained_once_where_a_critics_choice_asks_it() -> None:
    demo = load("demo", ["evaluation.methods.bcq_h={policy: bcq_h, variant: bcq_h}"])
    off = {"actor.support": None, "actor.lookahead": 0}
    without = needed_variants(override(demo, off))
    checked = override(demo, {**off, "actor.support": {"quantile": 0.9}})
    needed = needed_variants(checked)
    assert needed_variants(override(demo, {**off, "actor.lookahead": 0.5})) == needed
    assert (without["world_model"], needed["world_model"]) == ([], ["main", "bcq_h"])
    assert {**without, "world_model": needed["world_model"]} == needed
    names = _names(_planner(checked).whole_run())
    assert [name for name in names if name.startswith("world_model")] == ["world_model"]

    changes = {
        **off,
        "variants.bcq_h": {**demo.variants["bcq_h"], "actor.support": {}},
    }
    only = override(demo, changes)
    assert needed_variants(only)["world_model"] == ["bcq_h"]
    assert "world_model" in _names(_planner(only).whole_run()), "the main pipeline's serves"
