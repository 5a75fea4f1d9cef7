"""A diffusion prior against a Gaussian one on the random walk (supplement D), H = 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common.data import load_episodes
from common.data.random_walk import GAP
from experiments.configurations import configured
from experiments.evaluations import Evaluations
from experiments.experiment import Context, Experiment, Findings, PaperValue, Picture, Row, Scale
from experiments.figures import curves
from experiments.page import table
from experiments.walk_policies import Decoding, WalkModels, walk_models
from ldcq.config import Config, override
from services.actor.report.theme import Draw, Theme, new_figure

CANDIDATES: dict[Scale, tuple[int, ...]] = {
    "smoke": (1, 4),
    "small": (1, 5, 20, 100),
    "full": (1, 5, 20, 100),
}
METHODS = {"ldcq": "main", "bcq": "bcq"}
"""A method and the pipeline it is played with."""
NAMES = {"ldcq": "LDCQ (diffusion prior)", "bcq": "BCQ (Gaussian prior)"}
PAPER = {
    "ldcq": PaperValue(-2.2, "supplement D", "the paper's random walk"),
    "bcq": PaperValue(-66.0, "supplement D", "the paper's random walk"),
}
DECODINGS = (
    Decoding("ldcq", "drawn", sample_actions=True),
    Decoding("bcq", "drawn", sample_actions=True),
    Decoding("bcq", "mode, latents within 0.5 deviations", clip=0.5),
    Decoding("bcq", "mode, latents within 0.15 deviations", clip=0.15),
    Decoding("bcq", "mode, the prior's mean latent", clip=0.0),
)
"""Other ways to act with the same models, which may explain the paper's -66."""

Array = NDArray[np.float32]


def run(context: Context) -> Findings:
    """Trains both pipelines for every seed, plays them with every n, and decodes their priors."""
    base, counts = context.config, CANDIDATES[context.scale]
    versions: dict[int, dict[int, str]] = {count: {} for count in counts}
    models: list[WalkModels] = []
    for number, seed in enumerate(context.seeds, start=1):
        context.pipeline.say(f"training seed {seed} ({number} of {len(context.seeds)})")
        for count in counts:
            config = override(with_candidates(base, count), {"seed": seed})
            # Everything is trained with the first n; the others play the same models.
            play = context.pipeline.run if count == counts[0] else context.pipeline.evaluate
            versions[count][seed] = play(config)
        models.append(walk_models(context.store, versions[counts[0]][seed], METHODS))
    evaluations = {count: Evaluations(context.store, versions[count]) for count in counts}
    actions = {name: np.stack([model.actions(name) for model in models]) for name in METHODS}
    rows = [
        replace(
            evaluations[n].row(name, settings={"candidates": n}, paper=PAPER[name]),
            measures={"off_support": off_support(actions[name])},
        )
        for name in METHODS
        for n in counts
    ]
    context.pipeline.say("other ways to decode")
    others = {
        decoding: [models[0].mean_return(decoding, n, base.evaluation) for n in counts]
        for decoding in DECODINGS
    }
    data = load_episodes(base.data, context.store.root).actions[:, 0].astype(np.float32)
    return Findings(
        rows,
        _pictures(rows, data, actions),
        [*(EXPLANATION if context.scale != "smoke" else ()), _table(rows, counts, others)],
        settings=configured(
            base,
            *("data.dataset", "horizon", "vae.latent_dim", "vae.beta", "critic.updates"),
            *("critic.candidates", "discount", "evaluation.episodes"),
        ),
        artifacts={
            f"evaluation, n = {count}, seed {seed}": version
            for count, by_seed in versions.items()
            for seed, version in by_seed.items()
        },
    )


def with_candidates(config: Config, candidates: int) -> Config:
    """A configuration that plays both pipelines, choosing the best of `candidates` latents."""
    return override(
        config,
        {
            "actor.candidates": candidates,
            "variants": {"bcq": {"prior.implementation": "gaussian"}},
            "evaluation.methods": {
                "ldcq": {"policy": "ldcq"},
                "bcq": {"policy": "bcq_h", "variant": "bcq"},
            },
        },
    )


def off_support(actions: Array) -> float:
    """Share of actions that lie in the data's gap, shorter than any step of the data."""
    return float((np.abs(actions) < GAP).mean())


def _pictures(rows: Sequence[Row], data: Array, actions: Mapping[str, Array]) -> list[Picture]:
    xlabel = "n, candidates of a decision"
    returns = curves(rows, "candidates", xlabel, group=lambda row: NAMES[row.method], log=True)
    return [
        Picture(
            "actions",
            f"Actions of the data, and decoded samples of each prior (mode of the decoder, states "
            f"from one end to the other). Between the dotted lines, at {GAP:g}, no data lie.",
            _histograms(data, actions),
        ),
        Picture("return", "Return over n, the candidates of which the critic picks one.", returns),
    ]


def _histograms(data: Array, actions: Mapping[str, Array]) -> Draw:
    panels = {"the data": data} | {NAMES[name]: found.ravel() for name, found in actions.items()}

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(3.3 * len(panels), 2.6, 1, len(panels))
        for place, (panel, (title, values)) in enumerate(zip(axes, panels.items(), strict=True)):
            colour = theme.colour(place - 1) if place else theme.muted
            panel.hist(values, bins=60, range=(-1, 1), density=True, color=colour)
            for edge in (-GAP, GAP):
                panel.axvline(edge, color=theme.ink, linewidth=0.8, linestyle=":")
            panel.set_title(f"{title}: {off_support(values):.1%} off")
            panel.set_xlabel("action")
        return figure

    return draw


def _table(
    rows: Sequence[Row], counts: Sequence[int], others: Mapping[Decoding, Sequence[float]]
) -> str:
    lines = []
    for name in METHODS:
        found = [row.episode_return for row in rows if row.method == name]
        lines.append([NAMES[name], "mode", *(f"{score.mean:.1f}" for score in found if score)])
    for decoding, returns in others.items():
        lines.append([NAMES[decoding.method], decoding.label, *(f"{at:.1f}" for at in returns)])
    return table(["method", "actions", *(f"n = {n}" for n in counts)], lines)


EXPLANATION = (
    "The Gaussian prior puts most of its decoded samples into the gap, where no data are; the "
    "diffusion prior has both modes and almost nothing between. That is the paper's finding.",
    "The paper's returns are another matter. They depend on n, which supplement D does not say. "
    "With n = 1 both priors walk at random, the Gaussian with shorter steps. From a few "
    "candidates on the critic picks one direction and the longest step, and the Gaussian's "
    "samples beyond the modes are no handicap: clipped to the action space they are the "
    "longest steps there are. No support was needed for such a step to be a good one.",
    "So no single n explains both -2.2 and -66. A return of -66 is 77 steps, which is a mean step "
    "of 0.13 in one direction, or a walk that is nearly random. The table shows what else was "
    "tried with the same models (first training seed). Drawing actions from the decoder changes "
    "little. Keeping latents near the Gaussian's mean does much: the nearer, the shorter the "
    "steps, however large n. The paper's *frequently taking actions with small step size* is "
    "what follows where a method may not leave the middle of its Gaussian (public BCQ code "
    "clips latents to 0.5 around the mean), or where its decoder has learned little more "
    "than the mean action. Which of them the paper did cannot be known from here.",
)


EXPERIMENT = Experiment(
    name="random-walk",
    title="A random walk with two modes",
    shows=(
        "What a prior must not do: the data hold steps of 0.8 to 1 to either side and none "
        "between. Reaching an end of [-10, 10] gives 10, every other step -1, so that ten steps "
        "straight to an end return 1. Both methods share the VAE, the latents and the critic's "
        "code; one prior is a diffusion model, the other a Gaussian."
    ),
    paper="supplement D, Figure 7",
    seeds={"smoke": 1, "small": 3, "full": 3},
    run=run,
    takes_dataset=False,
)
