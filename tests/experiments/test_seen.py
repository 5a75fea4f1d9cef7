"""What pages say was found follows from their rows."""

from __future__ import annotations

from experiments.experiment import Difference, PaperValue, Row
from experiments.latents import followed
from experiments.seen import beside_paper, compared, headline
from experiments.steps import alike
from experiments.world_model import predicted
from services.actor.scores import Estimate

AHEAD, BEHIND, OPEN = Estimate(5, 1, 9), Estimate(-5, -9, -1), Estimate(0.5, -1, 2)


def test_methods_are_compared_by_their_intervals() -> None:
    differences = [
        Difference("ldcq", "bcq_h", {}, AHEAD, AHEAD),
        Difference("ldcq", "ldgc", {}, BEHIND, OPEN),
    ]
    rows = [Row("bc"), Row("ldcq", episode_return=Estimate(52.7, 42.8, 62.7))]
    assert headline(rows, differences) == (
        "LDCQ: return 52.7 [42.8, 62.7]. By paired differences, LDCQ: ahead of BCQ-H (return 5.00 "
        "[1.00, 9.00], first hit 5.00 [1.00, 9.00]); behind LDGC (return -5.00 [-9.00, -1.00]); "
        "open against LDGC (first hit 0.50 [-1.00, 2.00])."
    )


def test_where_something_is_varied_each_of_its_values_is_named() -> None:
    differences = [
        Difference("ldcq", "bcq_h", {"horizon": horizon}, score, None)
        for horizon, score in ((1, BEHIND), (10, AHEAD))
    ]
    assert compared(differences) == (
        "By paired differences, LDCQ: ahead of BCQ-H at H = 10 (return 5.00 [1.00, 9.00]); behind "
        "BCQ-H at H = 1 (return -5.00 [-9.00, -1.00])."
    )


def test_where_there_are_several_tasks_each_is_named() -> None:
    differences = [Difference("ldcq", "bc", {"task": "scene"}, AHEAD, None, success_score=BEHIND)]
    assert compared(differences) == (
        "By paired differences, LDCQ: behind BC on scene (success % -5.00 [-9.00, -1.00])."
    )


def test_the_paper_s_number_is_below_above_or_in_the_interval() -> None:
    rows = [
        Row(method, first_hit=Estimate(10, 8, 12), paper=PaperValue(paper, "Table 1", "D4RL"))
        for method, paper in (("bc", 5), ("ldcq", 9), ("ldgc", 20))
    ]
    said = beside_paper([*rows, Row("behaviour", first_hit=AHEAD)])
    assert "BC 10.0 [8.00, 12.0], the paper 5: above it; " in said
    assert "the paper 9: the interval holds it; " in said
    assert said.endswith("the paper 20: below it.")


def test_settings_score_alike_only_where_every_interval_holds_every_mean() -> None:
    def row(steps: int, mean: float, low: float, high: float) -> Row:
        return Row("ldcq", {"steps": steps}, episode_return=Estimate(mean, low, high))

    said = alike([row(2, 28.0, 20, 36), row(50, 33.0, 25, 41)])
    assert said.startswith("From 2 to 50 denoising steps, over 2 settings")
    assert "a return between 28.0 and 33.0. Every interval holds all these means" in said
    said = alike([row(2, 28, 20, 32), row(50, 33, 25, 41)])
    assert said.endswith("Some interval of the return leaves one of these means out.")


def test_a_prior_has_more_off_the_support_where_every_seed_has() -> None:
    def row(method: str, horizon: int, low: float, high: float) -> Row:
        shares = {"off_support": (low + high) / 2, "lowest_seed": low, "highest_seed": high}
        return Row(method, {"horizon": horizon}, measures=shares)

    rows = [
        *(row("diffusion", 1, 0.01, 0.03), row("gaussian", 1, 0.02, 0.04)),
        *(row("diffusion", 30, 0.1, 0.14), row("gaussian", 30, 0.54, 0.58)),
    ]
    assert followed(rows) == (
        "Samples off the data's support at H = 1, 30: 2%, 12% of the diffusion prior's and 3%, 56% "
        "of the Gaussian prior's. Seed against seed, the Gaussian prior has more at H = 30, "
        "about as many at H = 1."
    )


def test_the_world_model_s_errors_are_named_for_every_kind_of_latent() -> None:
    measures = {"error": 0.1, "travelled": 0.96, "same_direction": 0.98, "ways_taken": 1.82}
    said = predicted([Row(name, measures=measures) for name in ("data", "diffusion", "gaussian")])
    assert (
        "for the data's latents 0.10 m off after 0.96 m, with the right direction in 98%; for the"
        in said
    )
    assert said.endswith("took 1.8 ways at a junction.")
