"""Where sampled latents lead: the world model's word beside the environment's (Fig. 5, B.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.support import Junctions
from common.data import Layout, load_task
from common.data.pointmaze import FastPointMaze
from common.models import model_of
from experiments.experiment import Context, Experiment, Findings, Picture, Row, Scale
from experiments.horizon import TUNED
from experiments.trained_priors import TrainedPriors, train_priors, with_both_priors
from ldcq.config import Config, ConfigError, override
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.vae.model import Vae
from ldcq.world_model import WorldModel
from services.actor.report.maze_figure import draw_map
from services.actor.report.theme import Draw, Theme, new_figure

JUNCTIONS: dict[Scale, int] = {"smoke": 2, "small": 24, "full": 48}
SAMPLES: dict[Scale, int] = {"smoke": 5, "small": 60, "full": 200}
"""Latents at each junction."""
SHOWN = 3
"""Junctions that are drawn."""
AROUND = 2.2
"""Half width of the map drawn around a junction, in cells."""
LIKELY = 0.05
"""Share of latents from which a direction counts as taken."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """Where latents lead from some junctions, J of them with n latents each."""

    start: Array  # positions, (J, 2)
    predicted: Array  # the world model's mean positions, (J, n, 2)
    reached: Array  # where the environment really ends, (J, n, 2)

    def measures(self) -> dict[str, float]:
        """Distances in the map's unit (metres), means over all latents, and directions."""
        error = np.linalg.norm(self.predicted - self.reached, axis=2)
        said, done = (self._ways(ends) for ends in (self.predicted, self.reached))
        return {
            "error": float(error.mean()),
            "error_median": float(np.median(error)),
            "travelled": float(np.linalg.norm(self.reached - self.start[:, None], axis=2).mean()),
            "same_direction": float((said == done).mean()),
            "ways_predicted": float(self._count(self.predicted).mean()),
            "ways_taken": float(self._count(self.reached).mean()),
        }

    def most_parted(self, count: int) -> Array:
        """The junctions at which the environment saw most ways taken, shape (count,)."""
        return np.argsort(-self._count(self.reached), kind="stable")[:count]

    def _count(self, ends: Array) -> Array:
        """How many of the four ways at least `LIKELY` of the latents took, (J,)."""
        shares = (self._ways(ends)[:, :, None] == np.arange(4)).mean(axis=1)
        return np.asarray((shares >= LIKELY).sum(axis=1))

    def _ways(self, ends: Array) -> Array:
        moved = ends - self.start[:, None]
        quarters = np.round(np.arctan2(moved[..., 1], moved[..., 0]) / (np.pi / 2))
        return np.asarray(quarters.astype(int) % 4)


def run(context: Context) -> Findings:
    """Trains VAE, priors and world model for every seed; predicts and executes latents."""
    base = with_both_priors(context.config)
    found: dict[str, list[dict[str, float]]] = {}
    artifacts: dict[str, str] = {}
    pictures: list[Picture] = []
    for seed in context.seeds:
        context.pipeline.say(f"training seed {seed}")
        trained = train_priors(context, override(base, {"seed": seed}))
        version = context.pipeline.train(trained.config, "world_model")
        layout, outcomes = _outcomes(context, trained, version)
        for name, outcome in outcomes.items():
            found.setdefault(name, []).append(outcome.measures())
        artifacts |= {f"VAE, seed {seed}": trained.vae, f"world model, seed {seed}": version}
        if seed == context.seeds[0]:
            pictures.append(Picture("world-model", CAPTION, _drawing(outcomes, layout)))
    rows = [
        Row(
            name,
            measures={key: float(np.mean([seed[key] for seed in by_seed])) for key in by_seed[0]},
            seeds=len(by_seed),
        )
        for name, by_seed in found.items()
    ]
    return Findings(
        rows,
        pictures,
        [
            predicted(rows),
            DEFINITION,
            f"{JUNCTIONS[context.scale]} states at junctions, {SAMPLES[context.scale]} latents at "
            "each.",
        ],
        artifacts=artifacts,
    )


def predicted(rows: Sequence[Row]) -> str:
    """How well the world model knows where each prior's latents lead, and how far they part."""
    said = [
        f"for {CALLED[row.method]} latents {row.measures['error']:.2f} m off after "
        f"{row.measures['travelled']:.2f} m, with the right direction in "
        f"{row.measures['same_direction']:.0%}"
        for row in rows
    ]
    ways = next(row.measures["ways_taken"] for row in rows if row.method == "diffusion")
    return (
        f"The world model is {'; '.join(said)}. Latents of the diffusion prior "
        f"took {ways:.1f} ways at a junction."
    )


CALLED = {
    "data": "the data's",
    "diffusion": "the diffusion prior's",
    "gaussian": "the Gaussian prior's",
}
CAPTION = (
    "Positions after H steps for latents sampled at a junction (circle): what the world model says "
    "(above), and where the environment ends when each latent is decoded and executed (below). "
    "Diffusion prior, first training seed; shown are the states at which most ways were taken."
)
DEFINITION = (
    "*error* is the distance in metres between the predicted position and the one that the "
    "environment reaches, the latent being decoded by its mode; a cell is one metre. *travelled* "
    "is how far the environment went, the error of a model that predicts no movement. "
    "*same direction* is the share of latents for which both went the same of four ways, "
    f"*ways* how many of them at least {LIKELY:.0%} of the latents took. The rows are latents of "
    "the data's own windows that begin there, and samples of each prior."
)


def _outcomes(
    context: Context, trained: TrainedPriors, version: str
) -> tuple[Layout, dict[str, Outcome]]:
    layout = load_task(trained.config, context.store.root).layout
    simulation = _simulation(trained.config, context.store.root)
    if layout is None:
        raise ConfigError(f"{trained.config.data.dataset} has no map, expected a maze")
    junctions = Junctions.find(trained.table, layout, JUNCTIONS[context.scale])
    if not len(junctions.rows):
        raise ConfigError(f"{trained.config.data.dataset}: no window begins at a junction")
    model = model_of(context.store.load("world_model", version), WorldModel)
    decoder = model_of(context.store.load("vae", trained.vae), Vae)
    states, where = junctions.states, list(layout.position_indices)
    latents = {"data": trained.posterior(junctions.rows)[:, None]} | {
        name: trained.draw(name, states, SAMPLES[context.scale]) for name in trained.priors
    }
    outcomes = {}
    for name, drawn in latents.items():
        begun = states.repeat(drawn.shape[1], axis=0)
        flat = drawn.reshape(len(begun), -1)
        with torch.no_grad():
            said = model.predict(torch.from_numpy(begun), torch.from_numpy(flat)).numpy()
        done = _execute(simulation, decoder, begun, flat)
        shape = (*drawn.shape[:2], 2)
        outcomes[name] = Outcome(
            states[:, where], said[:, where].reshape(shape), done[:, where].reshape(shape)
        )
    return layout, outcomes


def _simulation(config: Config, store_root: Path) -> FastPointMaze:
    """The simulation of a configuration's task, which can be put into any state.

    Raises:
        ConfigError: The task is no PointMaze, or its state is not position and velocity.
    """
    environment: Any = load_task(config, store_root).make_env()
    task = environment.unwrapped
    if not hasattr(task, "point_env") or environment.observation_space.shape != (4,):
        raise ConfigError(
            f"{config.data.dataset}: states of {environment.observation_space.shape}, expected "
            "position and velocity of a PointMaze (data.observation_keys: [observation])"
        )
    return FastPointMaze(task)


def _execute(
    simulation: FastPointMaze, decoder: LowLevelPolicy, states: Array, latents: Array
) -> Array:
    """Where raw latents (N, Z) end from raw states (N, 4): each is decoded, by the mode, and
    executed for all H steps. Returns raw states s_{t+H}, (N, 4).
    """
    now, chosen = np.asarray(states, np.float64), torch.from_numpy(latents)
    for _ in range(decoder.dimensions.horizon):
        actions = decoder.act(torch.from_numpy(now.astype(np.float32)), chosen).numpy()
        for row, (state, action) in enumerate(zip(now, actions, strict=True)):
            simulation.set_state(state[:2], state[2:])
            simulation.step(action)
            now[row] = simulation.state
    return now


def _drawing(outcomes: Mapping[str, Outcome], layout: Layout) -> Draw:
    outcome = outcomes["diffusion"]
    order = outcome.most_parted(SHOWN)

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(2.9 * len(order), 5.6, 2, len(order))
        found = {"the world model": outcome.predicted, "the environment": outcome.reached}
        for row, (title, ends) in enumerate(found.items()):
            for column, index in enumerate(order):
                panel = axes[row * len(order) + column]
                colour = theme.colour(row)
                _panel(panel, layout, theme, outcome.start[index], ends[index], colour)
                panel.set_title(f"junction {column + 1}: {title}", fontsize=9)
        return figure

    return draw


def _panel(
    axes: Axes, layout: Layout, theme: Theme, start: Array, ends: Array, colour: str
) -> None:
    draw_map(axes, layout, theme)
    for end in ends:
        axes.plot(*zip(start, end, strict=True), color=colour, linewidth=0.4, alpha=0.25, zorder=3)
    axes.scatter(ends[:, 0], ends[:, 1], s=7, color=colour, alpha=0.7, linewidths=0, zorder=4)
    axes.plot(*start, "o", markersize=6, color=theme.surface, markeredgecolor=theme.ink, zorder=5)
    reach = AROUND * layout.cell_size
    axes.set_xlim(start[0] - reach, start[0] + reach)
    axes.set_ylim(start[1] - reach, start[1] + reach)


EXPERIMENT = Experiment(
    name="world-model",
    title="Where latents lead at a junction",
    shows=(
        "That sampled latents are behaviours with different ends: at a junction of the maze, the "
        "positions that the world model predicts after H steps for latents of the prior, beside "
        "those where the environment really ends after executing them."
    ),
    paper="Figure 5, supplement B.1",
    tuned=TUNED,
    seeds={"smoke": 1, "small": 3, "full": 3},
    run=run,
)
