"""The demo's ranking over training seeds, and on CPUs of other instruction sets."""

from __future__ import annotations

from experiments.configurations import need_dataset
from experiments.evaluations import run_seeds
from experiments.experiment import Context, Experiment, Findings, Picture
from experiments.figures import scores
from experiments.horizon import TUNED
from experiments.seen import headline

METHODS = {
    "ldcq": {"policy": "ldcq"},
    "bcq_h": {"policy": "bcq_h", "variant": "bcq_h"},
    "prior": {"policy": "prior"},
    "behaviour": {"policy": "behaviour"},
}


def run(context: Context) -> Findings:
    """Trains and plays the demo once for every training seed."""
    need_dataset(context.config, context.store)
    evaluations = run_seeds(context, context.config)
    rows = [evaluations.row(name) for name in METHODS]
    caption = "Scores with their intervals, normalised as D4RL does."
    differences = [evaluations.difference("ldcq", other) for other in ("bcq_h", "prior")]
    return Findings(
        rows,
        [Picture("scores", caption, scores(rows))],
        notes=[headline(rows, differences), evaluations.by_seed("ldcq", "bcq_h")],
        artifacts=evaluations.artifacts,
        differences=differences,
    )


EXPERIMENT = Experiment(
    name="demo",
    title="The demo",
    shows=(
        "Whether the demo's ranking holds over training seeds: LDCQ, BCQ-H (the same critic over a "
        "Gaussian prior), one prior sample and the data themselves, on PointMaze Medium."
    ),
    paper="none: data and settings are the project's own",
    tuned=TUNED,
    seeds={"smoke": 1, "small": 5, "full": 5},
    run=run,
    methods=METHODS,
)
