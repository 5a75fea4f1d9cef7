"""Latents over the horizon, and what priors draw off the data's support (Fig. 2, 3; 5.1, 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.support import OUTSIDE, Junctions, Support
from common.data import Layout, load_task
from experiments.experiment import Context, Experiment, Findings, Picture, Row
from experiments.horizon import HORIZONS, TUNED, with_horizon
from experiments.trained_priors import TrainedPriors, train_priors, with_both_priors
from ldcq.config import ConfigError, override
from services.actor.report.latent_figure import draw_clouds
from services.actor.report.prior_samples import neighbourhood
from services.actor.report.theme import Draw, Theme, new_figure

NEAR = 400
"""Windows that begin like one, and samples drawn there."""
ANCHORS = 64
"""States that are tried as the one state."""
NAMES = {
    "data": "the data",
    "diffusion": "diffusion prior",
    "gaussian": "Gaussian prior",
}

Array = NDArray[Any]


@dataclass(frozen=True)
class Neighbourhood:
    """Latents of windows that begin like one, and of priors there."""

    data: Array  # (NEAR, Z)
    angle: Array  # direction in which each of these windows leads, in turns, (NEAR,)
    priors: Mapping[str, Array]  # samples of each, (NEAR, Z)


def run(context: Context) -> Findings:
    """Trains VAE and priors for every H and seed, and looks at their latents."""
    base = with_both_priors(context.config)
    rows: list[Row] = []
    shown: dict[int, Neighbourhood] = {}
    artifacts: dict[str, str] = {}
    for horizon in HORIZONS[context.scale]:
        shares: dict[str, list[float]] = {name: [] for name in NAMES}
        for seed in context.seeds:
            context.pipeline.say(f"H = {horizon}, training seed {seed}")
            trained = train_priors(context, override(with_horizon(base, horizon), {"seed": seed}))
            for name, share in off_support(trained).items():
                shares[name].append(share)
            if seed == context.seeds[0]:
                layout = load_task(trained.config, context.store.root).layout
                shown[horizon] = begins_alike(trained, layout)
            artifacts[f"VAE, H = {horizon}, seed {seed}"] = trained.vae
            artifacts |= {
                f"{NAMES[name]}, H = {horizon}, seed {seed}": prior.description.model_version
                for name, prior in trained.priors.items()
            }
        rows += [
            Row(
                name,
                settings={"horizon": horizon},
                measures={
                    "off_support": float(np.mean(found)),
                    "lowest_seed": min(found),
                    "highest_seed": max(found),
                },
                seeds=len(found),
            )
            for name, found in shares.items()
        ]
    caption = (
        "Latents of windows that begin like one, on the two main axes of the data's; in colour, "
        "where the window leads. To the right, samples of each prior at that state over the data's "
        "(grey). First training seed."
    )
    return Findings(
        rows,
        [Picture("latents", caption, _grid(shown))],
        [followed(rows), DEFINITION],
        artifacts=artifacts,
    )


def followed(rows: Sequence[Row]) -> str:
    """How much of each prior's samples is off the support, and at which H every training seed of
    the Gaussian has more, or less, than every one of the diffusion prior.
    """
    by_horizon: dict[object, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_horizon.setdefault(row.settings["horizon"], {})[row.method] = row.measures
    shares = []
    for name in ("diffusion", "gaussian"):
        off = [f"{found[name]['off_support']:.0%}" for found in by_horizon.values()]
        shares.append(f"{', '.join(off)} of the {NAMES[name]}'s")
    places: dict[str, list[str]] = {"more": [], "fewer": [], "about as many": []}
    for horizon, found in by_horizon.items():
        ours, theirs = found["diffusion"], found["gaussian"]
        more = theirs["lowest_seed"] > ours["highest_seed"]
        fewer = theirs["highest_seed"] < ours["lowest_seed"]
        places["more" if more else "fewer" if fewer else "about as many"].append(f"{horizon}")
    told = [f"{word} at H = {', '.join(where)}" for word, where in places.items() if where]
    return (
        f"Samples off the data's support at H = {', '.join(map(str, by_horizon))}: "
        f"{' and '.join(shares)}. Seed against seed, the Gaussian prior has {', '.join(told)}."
    )


DEFINITION = (
    f"A sample is *off support* where it is farther from the training windows than {OUTSIDE:.0%} "
    "of held-out windows are: the distance is that to the nearest training window, over state and "
    "latent together, each standardised and the state counted twice, at the states of held-out "
    "windows, one sample each. The row of the data are further draws of q(z | tau) for those "
    f"held-out windows; {1 - OUTSIDE:.0%} is what a prior without fault would have. "
    "Priors are sampled with `actor.sampling`."
)


def off_support(trained: TrainedPriors) -> dict[str, float]:
    """Share of samples off the data's support at the states of held-out windows.

    Raises:
        ConfigError: No window is held out.
    """
    try:
        support = Support(trained.table)
    except ValueError as error:
        raise ConfigError(f"data.validation_fraction: {error}") from error
    states = trained.table.state[support.held_out]
    samples = {"data": trained.posterior(support.held_out, seed=1)[:, None]}
    samples |= {name: trained.draw(name, states, 1) for name in trained.priors}
    return {
        name: float(support.outside(states, latents).mean()) for name, latents in samples.items()
    }


def begins_alike(trained: TrainedPriors, layout: Layout | None) -> Neighbourhood:
    """What begins like one state: a junction's, where there is a map, else one visited often."""
    table, random = trained.table, np.random.default_rng(0)
    anchors = random.permutation(len(table))[:ANCHORS]
    if layout is not None:
        found = Junctions.find(table, layout, ANCHORS).rows
        anchors = found if len(found) else anchors
    anchor, rows = neighbourhood(table.state, anchors, NEAR)
    where = [0, -1] if layout is None else list(layout.position_indices)
    moved = table.next_state[rows][:, where] - table.state[rows][:, where]
    return Neighbourhood(
        data=trained.posterior(rows),
        angle=np.arctan2(moved[:, 1], moved[:, 0]) / (2 * np.pi) % 1.0,
        priors={
            name: trained.draw(name, table.state[[anchor]], len(rows))[0] for name in trained.priors
        },
    )


def _grid(shown: Mapping[int, Neighbourhood]) -> Draw:
    names = list(next(iter(shown.values())).priors)
    columns = 1 + len(names)

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(2.9 * columns, 2.5 * len(shown), len(shown), columns)
        for place, (horizon, found) in enumerate(shown.items()):
            panels = axes[place * columns : (place + 1) * columns]
            directions = {"c": found.angle, "cmap": "hsv", "vmin": 0, "vmax": 1, "alpha": 0.8}
            project = draw_clouds(panels, theme, found.data, found.priors, directions)
            varying = f"{NAMES['data']} ({project.explained.sum():.0%} of the variance)"
            for panel, name in zip(panels, [varying, *map(NAMES.get, names)], strict=True):
                panel.set_title(f"H = {horizon}: {name}", fontsize=9)
        return figure

    return draw


EXPERIMENT = Experiment(
    name="latents",
    title="Latents over the horizon, and samples off the data's support",
    shows=(
        "How latents part into modes as windows grow, and which prior follows: the data's latents "
        "on their main axes, samples of a diffusion and of a Gaussian prior over them, and the "
        "share of samples where no data are. VAE and priors are those of the experiment `horizon`."
    ),
    paper="Figures 2 and 3",
    tuned=TUNED,
    seeds={"smoke": 1, "small": 3, "full": 3},
    settings="horizon",
    run=run,
)
