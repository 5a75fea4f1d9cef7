"""Tasks of benchmarks: what each method scores on generated data, beside the paper's number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from common.data import is_on_this_machine
from experiments.configurations import configuration, need_dataset
from experiments.evaluations import Evaluations, run_seeds
from experiments.experiment import (
    Context,
    Experiment,
    Findings,
    Methods,
    PaperValue,
    Picture,
    Row,
)
from experiments.figures import by_task, scores, trajectories
from experiments.seen import TASK, compared, headline
from ldcq.config import Config, ConfigError, PolicyConfig, override

METHODS = {
    "bc": {"policy": "bc"},
    "prior": {"policy": "prior"},
    "bcq_h": {"policy": "bcq_h", "variant": "bcq_h"},
    "ldcq": {"policy": "ldcq"},
    "behaviour": {"policy": "behaviour"},
}
AGAINST = ("bc", "bcq_h")
POLICIES = {
    "HalfCheetah-v5": "tqc_HalfCheetah-v3.npz",
    "Hopper-v5": "tqc_Hopper-v3.npz",
    "Walker2d-v5": "tqc_Walker2d-v3.npz",
    **{
        f"AdroitHand{name}-v1": f"dapg_policy_{name.lower()}-v0.npz"
        for name in ("Pen", "Hammer", "Door", "Relocate")
    },
}
"""Who plays an environment, in the folder `policies` of the data of third parties."""


def experiment(
    name: str,
    *,
    title: str,
    shows: str,
    paper: str,
    tasks: Sequence[str],
    tuned: str,
    notes: Sequence[str],
    methods: Methods = METHODS,
    against: Sequence[str] = AGAINST,
) -> Experiment:
    """The experiment of some tasks, each trained and played from the start.

    Args:
        name: On the command line.
        title: Of its page.
        shows: What it is to show.
        paper: Where the paper shows it.
        tasks: Their names; several are a column of the table.
        tuned: What the settings were tuned on.
        notes: What is to be known of the numbers.
        methods: What is played; `ldcq` is one of them.
        against: Methods that LDCQ is compared with.
    """
    return Experiment(
        name=name,
        title=title,
        shows=shows,
        paper=paper,
        tuned=tuned,
        seeds={"smoke": 1, "small": 3, "full": 5},
        run=partial(_run, name, tuple(tasks), methods, tuple(against), tuple(notes)),
        methods=methods,
        tasks=tasks,
        takes_dataset=len(tasks) == 1,
    )


def _run(
    name: str,
    tasks: Sequence[str],
    methods: Methods,
    against: Sequence[str],
    notes: Sequence[str],
    context: Context,
) -> Findings:
    configs = {task: _configured(name, task, methods, context) for task in tasks}
    for config in configs.values():
        need_dataset(config, context.store)
    played: dict[str, Evaluations] = {}
    for task, config in configs.items():
        played[task] = run_seeds(context, config, task if len(tasks) > 1 else "")
    rows: list[Row] = []
    differences = []
    for task, evaluations in played.items():
        said = {TASK: task} if len(tasks) > 1 else {}
        papers = _papers(configs[task])
        rows += [
            evaluations.row(method, settings=said, paper=papers.get(method)) for method in methods
        ]
        differences += [evaluations.difference("ldcq", other, said) for other in against]
    if len(tasks) > 1:
        found = compared(differences)
        pictures = [Picture("scores", "Scores with their intervals.", by_task(rows, TASK))]
    else:
        found = headline(rows, differences)
        (config,), (evaluations,) = configs.values(), played.values()
        pictures = [
            Picture("scores", "Scores with their intervals.", scores(rows)),
            *trajectories(config, context.store, evaluations, [*methods]),
        ]
    return Findings(
        rows,
        pictures,
        notes=[found, *notes],
        artifacts={
            f"{task}, {what}" if len(tasks) > 1 else what: version
            for task, evaluations in played.items()
            for what, version in evaluations.artifacts.items()
        },
        differences=differences,
    )


def _configured(name: str, task: str, methods: Methods, context: Context) -> Config:
    """A task's configuration, with the policies that make its data."""
    config = configuration(name, context.scale, context.dataset, methods, task)
    made = config.data.generate
    if not isinstance(made, PolicyConfig):
        return config
    file = POLICIES[made.environment]
    path = context.third_party / "policies" / file if context.third_party else Path(file)
    if not path.is_file() and not is_on_this_machine(config.data, context.store.root):
        raise ConfigError(
            f"{task}: its data are played by a third party's policy, {file}, that is not on this "
            "machine; put it into a folder policies and set LDCQ_THIRD_PARTY_DATA to the folder "
            f"around it (now: {context.third_party or 'not set'})"
        )
    policies = [{**each.model_dump(mode="json"), "file": str(path)} for each in made.policies]
    return override(config, {"data.generate.policies": policies})


def _papers(config: Config) -> dict[str, PaperValue]:
    """What the paper reports of a task, by policy."""
    task = config.task
    if task is None or task.citation is None:
        return {}
    return {
        policy: PaperValue(value[0], task.citation, f"{task.benchmark} of D4RL", *value[1:])
        for policy, value in task.paper.items()
    }
