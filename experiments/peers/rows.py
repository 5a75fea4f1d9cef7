"""Rows of other methods, which `python -m experiments.peers` measured with a library of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.experiment import Experiment, Findings, Row, Scalar
from experiments.intervals import over_seeds
from experiments.seen import TASK
from ldcq.config import Config, DataConfig
from services.actor.scores import Estimate


def file_of(results: Path, experiment: Experiment, task: str) -> Path:
    """Where the peers' scores are.

    Args:
        results: Folder of all pages.
        experiment: The experiment.
        task: One of its tasks, or its own name where it has none.
    """
    several = len(experiment.tasks) > 1
    name = f"{experiment.name}.{task}" if several else experiment.name
    return results / "peers" / f"{name}.json"


def with_peers(
    findings: Findings, results: Path, experiment: Experiment, configs: Mapping[str, Config]
) -> Findings:
    """The findings with the peers' rows below those of their task, and a note on their training.

    Args:
        findings: Of the experiment.
        results: Folder of all pages; without peers' scores in it nothing is added.
        experiment: The experiment.
        configs: Its configurations by task; peers of other data or episodes are left out, and a
            note says so.
    """
    rows, notes = [*findings.rows], [*findings.notes]
    for task, config in configs.items():
        file = file_of(results, experiment, task)
        if not file.is_file():
            continue
        content = json.loads(file.read_text())
        played = {"episodes": config.evaluation.episodes, "seed": config.evaluation.seed}
        same_data = told(DataConfig(**content["data"])) == told(config.data)
        if content["evaluation"] != played or not same_data:
            notes.append(f"Peers are left out: `peers/{file.name}` is of other data or episodes.")
            continue
        said = {TASK: task} if len(configs) > 1 else {}
        peers = [_row(row, config, said) for row in content["rows"]]
        last = max(i for i, row in enumerate(rows) if row.settings.get(TASK) == said.get(TASK))
        rows[last + 1 : last + 1] = peers
        training = content["training"]
        notes.append(
            f"{' and '.join(row.method for row in peers)}: on raw actions, by that library "
            f"(`python -m experiments.peers`), with the same data, environment and starts, "
            f"{training['n_steps']}-step returns, layers {training['hidden']}, "
            f"{training['cpu_seconds']:g} CPU seconds of training on one thread "
            f"({content['machine']['processor']})."
        )
    return replace(findings, rows=rows, notes=[*dict.fromkeys(notes)])


def told(data: DataConfig) -> dict[str, Any]:
    """What the data are, wherever the files of the policies lie that play them."""
    tree = data.model_dump(mode="json")
    for policy in (tree["generate"] or {}).get("policies", ()):
        policy["file"] = None
    return tree


def _row(row: dict[str, Any], config: Config, said: Mapping[str, Scalar]) -> Row:
    runs: Sequence[dict[str, Any]] = row["runs"]
    done = [run["success"] for run in runs if run["success"] is not None]

    def estimate(values: str) -> Estimate | None:
        if runs[0].get(values) is None:
            return None
        per_seed = [np.asarray(run[values], np.float64) for run in runs]
        evaluation = config.evaluation
        return over_seeds(per_seed, evaluation.confidence, evaluation.seed)

    return Row(
        f"{row['method']} ({row['library']})",
        said,
        episode_return=estimate("returns"),
        first_hit=estimate("first_hits"),
        success=float(np.mean(done)) if done else None,
        success_score=estimate("success_scores"),
        episodes=len(runs[0]["returns"]),
        seeds=len(runs),
        train_seconds=float(np.mean([run["cpu_seconds"] for run in runs])),
    )
