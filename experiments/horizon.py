"""Score over the horizon H (Fig. 4, 10; section 5.3, supplement F)."""

from __future__ import annotations

from experiments.configurations import need_dataset
from experiments.evaluations import Evaluations, run_seeds
from experiments.experiment import Context, Experiment, Findings, Picture, Row, Scale
from experiments.figures import curves
from experiments.seen import compared
from ldcq.config import Config, override

HORIZONS: dict[Scale, tuple[int, ...]] = {
    "smoke": (2, 5),
    "small": (1, 10, 30),
    "full": (1, 5, 10, 20, 30, 40),
}
METHODS = {
    "ldcq": {"policy": "ldcq"},
    "bcq_h": {"policy": "bcq_h", "variant": "bcq_h"},
}


def run(context: Context) -> Findings:
    """Trains LDCQ and BCQ-H anew at every H and plays them."""
    base = context.config
    need_dataset(base, context.store)
    rows: list[Row] = []
    played: dict[int, Evaluations] = {}
    horizons = HORIZONS[context.scale]
    for number, horizon in enumerate(horizons, start=1):
        what = f"H = {horizon} ({number} of {len(horizons)})"
        played[horizon] = run_seeds(context, with_horizon(base, horizon), what)
        rows += [played[horizon].row(name, settings={"horizon": horizon}) for name in METHODS]
    caption = (
        "Score over the horizon H; bands are the intervals. H = 1 is one latent per action: "
        "BCQ-H is BCQ there. No more steps of a latent are executed, and no more decoded in an "
        "update of the VAE, than it has."
    )
    differences = [
        evaluations.difference("ldcq", "bcq_h", {"horizon": horizon})
        for horizon, evaluations in played.items()
    ]
    return Findings(
        rows,
        [Picture("horizon", caption, curves(rows, "horizon", "horizon H, steps"))],
        notes=[compared(differences)],
        artifacts={
            f"H = {horizon}, {name}": version
            for horizon, evaluations in played.items()
            for name, version in evaluations.artifacts.items()
        },
        differences=differences,
    )


def with_horizon(config: Config, horizon: int) -> Config:
    """A configuration with another H; what is bounded by H is lowered where it has to be."""
    shorter = [length for length in config.lengths if length < horizon]
    changes: dict[str, object] = {"horizon": horizon, "lengths": shorter}
    if config.actor.execute_steps is not None:
        changes["actor.execute_steps"] = min(config.actor.execute_steps, horizon)
    if config.vae.decoded_steps is not None:
        changes["vae.decoded_steps"] = min(config.vae.decoded_steps, horizon)
    return override(config, changes)


TUNED = (
    "The settings of scale `small` are those of the preset `demo`, tuned for LDCQ at H = 30 on "
    "training seeds 100, 101 and 102 and other starts than those reported; BCQ-H and every other H "
    "take them over. Those of scale `full` are the paper's."
)


EXPERIMENT = Experiment(
    name="horizon",
    title="Score over the horizon H",
    shows=(
        "What temporal abstraction brings: LDCQ and BCQ-H, each trained from the start with "
        "latents of H steps. The paper shows it on kitchen-mixed-v0, where both gain with H, LDCQ "
        "more, until the decoder's capacity ends it."
    ),
    paper="Figures 4 and 10",
    tuned=TUNED,
    seeds={"smoke": 1, "small": 3, "full": 3},
    run=run,
    methods=METHODS,
)
