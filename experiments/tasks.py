"""Tasks of benchmarks: what each method scores on generated data, beside the paper's number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from experiments.configurations import need_dataset
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
from ldcq.config import Config

METHODS = {
    "bc": {"policy": "bc"},
    "prior": {"policy": "prior"},
    "bcq_h": {"policy": "bcq_h", "variant": "bcq_h"},
    "ldcq": {"policy": "ldcq"},
    "behaviour": {"policy": "behaviour"},
}
GOAL_METHODS = {
    **METHODS,
    "ldgc": {"policy": "ldgc", "variant": "ldgc"},
    "ldcp": {"policy": "ldcp"},
}
"""Where the task is to reach a place."""
AGAINST = ("bc", "bcq_h")


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
        run=partial(_run, methods, tuple(against), tuple(notes)),
        methods=methods,
        tasks=tasks,
        takes_dataset=len(tasks) == 1,
    )


def _run(
    methods: Methods,
    against: Sequence[str],
    notes: Sequence[str],
    context: Context,
) -> Findings:
    configs = context.configs
    for config in configs.values():
        need_dataset(config, context.store)
    played: dict[str, Evaluations] = {}
    for task, config in configs.items():
        played[task] = run_seeds(context, config, task if len(configs) > 1 else "")
    rows: list[Row] = []
    differences = []
    for task, evaluations in played.items():
        said = {TASK: task} if len(configs) > 1 else {}
        papers = paper_values(configs[task])
        rows += [
            evaluations.row(method, settings=said, paper=papers.get(method)) for method in methods
        ]
        differences += [evaluations.difference("ldcq", other, said) for other in against]
    if len(configs) > 1:
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
            f"{task}, {what}" if len(configs) > 1 else what: version
            for task, evaluations in played.items()
            for what, version in evaluations.artifacts.items()
        },
        differences=differences,
    )


def paper_values(config: Config) -> dict[str, PaperValue]:
    """What the paper reports of a task, by policy."""
    task = config.task
    if task is None or task.citation is None:
        return {}
    return {
        policy: PaperValue(value[0], task.citation, f"{task.benchmark} of D4RL", *value[1:])
        for policy, value in task.paper.items()
    }
