"""What pictures in place of positions cost LDCQ (supplement C)."""

from __future__ import annotations

from experiments.configurations import need_dataset
from experiments.evaluations import run_seeds
from experiments.experiment import Context, Experiment, Findings, Picture, Row
from experiments.figures import scores
from experiments.page import shown
from experiments.seen import compared
from experiments.tasks import AGAINST, METHODS
from ldcq.config import Config, PointMazeConfig, override
from services.actor.report.wording import method_label


def run(context: Context) -> Findings:
    """Trains and plays the same ways through the same maze, seen as pictures and as positions."""
    configs = {"pictures": context.config, "positions": _seen_as_positions(context.config)}
    for config in configs.values():
        need_dataset(config, context.store, goals=True)
    played = {seen: run_seeds(context, config, seen) for seen, config in configs.items()}
    rows = [
        evaluations.row(name, settings={"observed": seen})
        for seen, evaluations in played.items()
        for name in METHODS
    ]
    differences = [
        evaluations.difference("ldcq", other, {"observed": seen})
        for seen, evaluations in played.items()
        for other in AGAINST
    ]
    return Findings(
        rows,
        [
            Picture(
                f"scores-{seen}",
                f"Scores from {seen}, with their intervals.",
                scores([row for row in rows if row.settings["observed"] == seen]),
            )
            for seen in played
        ],
        notes=[
            f"{cost(rows)} {compared(differences)}",
            *(f"From {seen}: {each.by_seed('ldcq', 'bcq_h')}" for seen, each in played.items()),
        ],
        artifacts={
            f"{seen}, {what}": version
            for seen, evaluations in played.items()
            for what, version in evaluations.artifacts.items()
        },
        differences=differences,
    )


def cost(rows: list[Row]) -> str:
    """How much of its first hit each method keeps that sees pictures in place of positions."""
    hits = {(row.method, row.settings["observed"]): row.first_hit for row in rows}
    said = []
    for method in dict.fromkeys(row.method for row in rows):
        pictures, positions = (hits[method, seen] for seen in ("pictures", "positions"))
        if method != "behaviour" and pictures is not None and positions is not None:
            said.append(
                f"{method_label(method)} {pictures.mean / positions.mean:.0%} "
                f"({shown(pictures)} against {shown(positions)})"
            )
    return f"Of the first hit from positions, pictures keep: {', '.join(said)}."


def _seen_as_positions(config: Config) -> Config:
    """The same data, generated with the same seed, without their pictures."""
    made = config.data.generate
    assert isinstance(made, PointMazeConfig)
    changes: dict[str, object] = {
        "frames": None,
        "data.dataset": config.data.dataset.replace("-pixels", "-positions"),
        "data.generate": made.model_copy(update={"pixels": None}).model_dump(mode="json"),
        "data.observation_keys": ["observation"],
        "data.goal_indices": [0, 1],
    }
    return override(config, changes)


EXPERIMENT = Experiment(
    name="pixels",
    title="Pictures in place of positions",
    shows=(
        "What it costs to see a maze as a picture, which a beta-VAE compresses to a few numbers, "
        "and the velocity: the same data of PointMaze, with and without pictures. The size of the "
        "pictures and the number of latents are among the settings below."
    ),
    paper="Table 4 (CARLA) does it for a car on a road",
    tuned=(
        "The settings of `configs/pixels.yaml` are the demo's. The frames' VAE was chosen with "
        "training seed 0, which is among those reported, its number of latents with training seed "
        "100. From positions nothing was tuned."
    ),
    seeds={"smoke": 1, "small": 3, "full": 5},
    run=run,
    methods=METHODS,
    takes_dataset=False,
)
