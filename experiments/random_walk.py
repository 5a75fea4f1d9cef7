"""A diffusion prior against a Gaussian one on the random walk (supplement D), H = 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common.data import load_episodes
from common.data.random_walk import GAP
from common.data.random_walk_env import LIMIT
from experiments.evaluations import Evaluations
from experiments.experiment import Context, Experiment, Findings, PaperValue, Picture, Row, Scale
from experiments.figures import curves
from experiments.intervals import over_seeds
from experiments.page import shown, table
from experiments.seen import compared
from experiments.walk_policies import Decoding, WalkModels, walk_models
from ldcq.config import Config, EvaluationConfig, override
from services.actor.report.theme import Draw, Theme, new_figure
from services.actor.scores import Estimate

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
"""Other ways to act with the same models."""

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
    evaluations = {
        count: Evaluations(context.store, with_candidates(base, count), versions[count])
        for count in counts
    }
    actions = {name: np.stack([model.actions(name) for model in models]) for name in METHODS}
    rows = [
        replace(
            evaluations[n].row(name, paper=PAPER[name]),
            measures={"off_support": off_support(actions[name])},
        )
        for name in METHODS
        for n in counts
    ]
    context.pipeline.say("other ways to decode")
    tried = {(name, "mode"): _returns(rows, name) for name in METHODS} | {
        (decoding.method, decoding.label): {
            n: _return(models, decoding, n, base.evaluation) for n in counts
        }
        for decoding in DECODINGS
    }
    data = load_episodes(base.data, context.store.root).actions[:, 0].astype(np.float32)
    differences = [evaluations[n].difference("ldcq", "bcq", {"candidates": n}) for n in counts]
    shares = ", ".join(f"{NAMES[name]} {off_support(found):.1%}" for name, found in actions.items())
    return Findings(
        rows,
        _pictures(rows, data, actions),
        [
            f"Decoded samples in the gap, where no data are: {shares}. {compared(differences)}",
            _seen(tried),
            OTHERS,
            _table(tried),
        ],
        artifacts={
            f"evaluation, n = {count}, seed {seed}": version
            for count, by_seed in versions.items()
            for seed, version in by_seed.items()
        },
        differences=differences,
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


def _returns(rows: Sequence[Row], method: str) -> dict[int, Estimate]:
    """By n, of the rows."""
    return {
        int(row.settings["candidates"] or 0): row.episode_return
        for row in rows
        if row.method == method and row.episode_return is not None
    }


def _return(
    models: Sequence[WalkModels], decoding: Decoding, candidates: int, evaluation: EvaluationConfig
) -> Estimate:
    """Over all training seeds, from the evaluation's own starts."""
    returns = [each.returns(decoding, candidates, evaluation) for each in models]
    return over_seeds(returns, evaluation.confidence, evaluation.seed)


def _table(tried: Mapping[tuple[str, str], Mapping[int, Estimate]]) -> str:
    counts = next(iter(tried.values()))
    return table(
        ["method", "actions", *(f"n = {n}" for n in counts)],
        [
            [NAMES[method], actions, *map(shown, scores.values())]
            for (method, actions), scores in tried.items()
        ],
    )


OTHERS = (
    "Other ways to act with the same models, over the same seeds and starts: actions drawn from "
    "the decoder; latents kept near the Gaussian's mean, in its deviations at a state (public BCQ "
    "code clips latents to 0.5 around the mean)."
)


def _seen(tried: Mapping[tuple[str, str], Mapping[int, Estimate]]) -> str:
    """What the rows say of the paper's two returns."""
    said = []
    for method, paper in PAPER.items():
        known = {
            (actions, n): score.mean
            for (of, actions), scores in tried.items()
            if of == method
            for n, score in scores.items()
        }
        best = max(known, key=lambda way: known[way])
        near = min(known, key=lambda way: abs(known[way] - paper.value))
        said.append(
            f"{NAMES[method]}: of all ways to act that are shown, the highest return is "
            f"{known[best]:.1f} (n = {best[1]}, actions: {best[0]}), and the one nearest to the "
            f"paper's {paper.value:g} is {known[near]:.1f} (n = {near[1]}, actions: {near[0]}). "
            f"A return of {paper.value:g} is a walk of {11 - paper.value:.0f} steps, a mean of "
            f"{LIMIT / (11 - paper.value):.2f} from the middle in one direction."
        )
    return " ".join([*said, "Supplement D does not say n."])


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
    tuned=(
        "n, which supplement D does not say, is varied. The sizes of scale `small` were chosen for "
        "their time on a CPU; on which seeds was not recorded."
    ),
    seeds={"smoke": 1, "small": 3, "full": 3},
    run=run,
    takes_dataset=False,
)
