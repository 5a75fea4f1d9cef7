"""Score over solver, denoising steps and extra steps (Fig. 8, 9; supplement E)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.configurations import need_dataset
from experiments.evaluations import run_seeds
from experiments.experiment import Context, Experiment, Findings, Picture, Row, Scalar, Scale
from experiments.figures import curves
from experiments.horizon import TUNED
from experiments.page import shown
from ldcq.config import Config, override
from ldcq.diffusion.options import DiffusionOptions


@dataclass(frozen=True)
class Setting:
    """How the prior is sampled while acting."""

    solver: str
    steps: int
    extra_steps: int = 0

    @property
    def variant(self) -> str:
        """Its name among the evaluation's methods and variants."""
        return f"{self.solver}-{self.steps}-{self.extra_steps}"

    def columns(self) -> dict[str, Scalar]:
        """The columns of its row."""
        return {"solver": self.solver, "steps": self.steps, "extra_steps": self.extra_steps}

    def overrides(self) -> dict[str, object]:
        """What it changes in the configuration: nothing that is trained."""
        return {f"actor.sampling.{name}": value for name, value in self.columns().items()}


EXTRA = 10
"""Extra steps of the paper."""
STEPS: dict[Scale, dict[str, tuple[int, ...]]] = {
    "smoke": {"ddpm": (2, 5), "dpmpp_2m": (3,)},
    "small": {
        "ddpm": (2, 5, 10, 20, 50),
        "ddim": (2, 5, 10, 20),
        "dpmpp_2m": (2, 5, 10, 20),
    },
    "full": {
        "ddpm": (5, 10, 20, 50, 100, 200),
        "ddim": (5, 10, 20, 50),
        "dpmpp_2m": (3, 5, 10, 20),
    },
}


def settings_of(scale: Scale, trained_steps: int) -> list[Setting]:
    """What is played at a scale: every solver with its steps, of T = `trained_steps` at most, DDPM
    also with extra steps.
    """
    plain = [
        Setting(solver, steps)
        for solver, counts in STEPS[scale].items()
        for steps in counts
        if steps <= trained_steps
    ]
    extra = [
        Setting("ddpm", setting.steps, EXTRA)
        for setting in plain
        if setting.solver == "ddpm" and setting.steps <= 20
    ]
    return plain + extra


def run(context: Context) -> Findings:
    """Trains LDCQ once for every seed and plays it with every setting."""
    base = context.config
    need_dataset(base, context.store)
    trained = DiffusionOptions.of(base.prior).steps
    chosen = settings_of(context.scale, trained)
    evaluations = run_seeds(context, with_settings(base, chosen))
    rows = [
        evaluations.row(setting.variant, method="ldcq", settings=setting.columns())
        for setting in chosen
    ]
    caption = (
        "Score of LDCQ over the denoising steps with which it acts; everything trained is the "
        f"same. DDPM + {EXTRA}: with further steps at t = 1 (Diffusion-X)."
    )
    drawing = curves(rows, "steps", "denoising steps", group=_line_of, log=True)
    return Findings(
        rows,
        [Picture("steps", caption, drawing)],
        notes=[alike(rows)],
        artifacts=evaluations.artifacts,
    )


def alike(rows: Sequence[Row]) -> str:
    """Between which means the settings score, and whether any interval tells them apart."""
    scores = {
        "return": [row.episode_return for row in rows if row.episode_return is not None],
        "first hit": [row.first_hit for row in rows if row.first_hit is not None],
    }
    found, apart = [], []
    for name, known in scores.items():
        if not known:
            continue
        low, high = (of(score.mean for score in known) for of in (min, max))
        found.append(f"a {name} between {shown(low)} and {shown(high)}")
        if any(score.ci_low > low or score.ci_high < high for score in known):
            apart.append(name)
    steps = sorted({int(row.settings["steps"] or 0) for row in rows})
    told = (
        f"Some interval of the {' and of the '.join(apart)} leaves one of these means out"
        if apart
        else "Every interval holds all these means: they score alike"
    )
    return (
        f"From {steps[0]} to {steps[-1]} denoising steps, over {len(rows)} settings of solver, "
        f"steps and extra steps, LDCQ has {' and '.join(found)}. {told}."
    )


def with_settings(config: Config, settings: list[Setting]) -> Config:
    """A configuration that plays LDCQ's one set of models with each of the settings."""
    return override(
        config,
        {
            "variants": {setting.variant: setting.overrides() for setting in settings},
            "evaluation.methods": {
                setting.variant: {"policy": "ldcq", "variant": setting.variant}
                for setting in settings
            },
        },
    )


def _line_of(row: Row) -> str:
    names = {"ddpm": "DDPM", "ddim": "DDIM", "dpmpp_2m": "DPM-Solver++(2M)"}
    extra = row.settings["extra_steps"]
    solver = str(row.settings["solver"])
    return names.get(solver, solver) + (f" + {extra}" if extra else "")


EXPERIMENT = Experiment(
    name="steps",
    title="Score over solver, denoising steps and extra steps",
    shows=(
        "What a denoising step is worth while acting: LDCQ, trained once for every seed, played "
        "with different solvers, numbers of steps and extra steps. In the paper's long-horizon "
        "tasks (Figure 9) the score rises with the steps at first and then stays."
    ),
    paper="Figures 8 and 9, supplement E",
    tuned=TUNED,
    seeds={"smoke": 1, "small": 3, "full": 3},
    run=run,
)
