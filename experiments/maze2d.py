"""maze2d-large: LDCQ, LDGC and LDCP against BC and BCQ-H (Tables 1, 8)."""

from __future__ import annotations

from common.data import load_task
from experiments.configurations import configuration, configured, need_dataset
from experiments.evaluations import Evaluations, run_seeds
from experiments.experiment import Context, Experiment
from experiments.figures import labels, scores
from experiments.paper import MAZE2D_LARGE
from experiments.result import Findings, Picture, Row, Scalar
from ldcq.config import Config
from services.actor.report.maze_figure import maze_figure

METHODS = {
    "bc": {"policy": "bc"},
    "prior": {"policy": "prior"},
    "bcq_h": {"policy": "bcq_h", "variant": "bcq_h"},
    "ldcq": {"policy": "ldcq"},
    "ldgc": {"policy": "ldgc", "variant": "ldgc"},
    "ldcp": {"policy": "ldcp"},
    "behaviour": {"policy": "behaviour"},
}


def run(context: Context) -> Findings:
    """Trains and plays all methods for every training seed."""
    config = configuration("maze2d", context.scale, context.dataset, METHODS)
    need_dataset(config, context.store, goals=True)
    evaluations = run_seeds(context, config)
    rows = [evaluations.row(name, paper=MAZE2D_LARGE.get(name)) for name in METHODS]
    caption = "Scores with their intervals, normalised as D4RL does."
    trajectories = _trajectories(context, config, evaluations)
    return Findings(
        rows,
        [Picture("scores", caption, scores(rows)), *trajectories],
        notes=[
            "The paper's numbers are first-hit scores, as the authors' release counts them; its "
            "BCQ row is not BCQ-H and is left out.",
            *evaluations.notes,
        ],
        settings=_settings(config),
        artifacts=evaluations.artifacts,
        confidence=config.evaluation.confidence,
    )


def _trajectories(context: Context, config: Config, evaluations: Evaluations) -> list[Picture]:
    layout = load_task(config, context.store.root).layout
    names = labels([Row(name) for name in METHODS])
    found = {names[name]: evaluations.positions(name) for name in METHODS}
    drawn = {name: positions for name, positions in found.items() if positions is not None}
    if layout is None or not drawn:
        return []
    caption = (
        "The first episodes of each method with the first training seed. Open circles are starts, "
        "filled ones ends; the star is the goal."
    )
    return [Picture("trajectories", caption, maze_figure(layout, drawn, None))]


def _settings(config: Config) -> dict[str, Scalar]:
    return {
        **configured(config, "horizon", "discount"),
        "data": _data(config),
        **configured(config, "vae.epochs", "prior.epochs", "critic.updates"),
        **configured(config, "critic.candidates", "actor.candidates"),
        "actor.execute_steps": config.actor.execute_steps or config.horizon,
        "actor.planning": f"depth {config.actor.planning.depth}, "
        f"n = {config.actor.planning.candidates}",
        "variants": str(config.variants),
        "evaluation.episodes": config.evaluation.episodes,
    }


def _data(config: Config) -> str:
    generate = config.data.generate
    return config.data.dataset if generate is None else f"generated, {generate.steps:,} steps"


EXPERIMENT = Experiment(
    name="maze2d",
    title="maze2d-large",
    shows=(
        "Stitching of undirected waypoint data to the way to one goal: behaviour cloning (BC), a "
        "prior sample as it comes, batch-constrained Q-learning over latents with a Gaussian "
        "prior (BCQ-H), with latent diffusion (LDCQ), a goal-conditioned prior (LDGC) and planning "
        "with the world model (LDCP)."
    ),
    paper="Tables 1 and 8",
    seeds={"smoke": 1, "small": 3, "full": 5},
    run=run,
)
