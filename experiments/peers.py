"""Rows of other methods, which `python -m benchmarks.peers` measured with a library of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.experiment import Findings, Row
from experiments.intervals import over_seeds
from ldcq.config import Config, DataConfig
from services.actor.scores import Estimate


def with_peers(findings: Findings, file: Path, config: Config) -> Findings:
    """The findings with the peers' rows below their own, and a note on how those were trained.

    Args:
        findings: Of an experiment.
        file: What `python -m benchmarks.peers` wrote; without it nothing is added.
        config: The experiment's; peers of other data or episodes are left out, and a note says so.
    """
    if not file.is_file():
        return findings
    content = json.loads(file.read_text())
    played = {"episodes": config.evaluation.episodes, "seed": config.evaluation.seed}
    if DataConfig(**content["data"]) != config.data or content["evaluation"] != played:
        note = f"Peers are left out: `peers/{file.name}` is of other data or other episodes."
        return replace(findings, notes=[*findings.notes, note])
    rows = [_row(row, config) for row in content["rows"]]
    training = content["training"]
    note = (
        f"{' and '.join(row.method for row in rows)} act on raw actions and come from that library "
        f"(`python -m benchmarks.peers`): same data, environment and starts, {training['n_steps']}-"
        f"step returns, layers {training['hidden']}, {training['cpu_seconds']:g} CPU seconds of "
        f"training on one thread ({content['machine']['processor']})."
    )
    return replace(findings, rows=[*findings.rows, *rows], notes=[*findings.notes, note])


def _row(row: dict[str, Any], config: Config) -> Row:
    runs: Sequence[dict[str, Any]] = row["runs"]

    def estimate(values: str) -> Estimate | None:
        if runs[0][values] is None:
            return None
        per_seed = [np.asarray(run[values], np.float64) for run in runs]
        evaluation = config.evaluation
        return over_seeds(per_seed, evaluation.confidence, evaluation.seed)

    first_hit = estimate("first_hits")
    return Row(
        f"{row['method']} ({row['library']})",
        episode_return=estimate("returns"),
        first_hit=first_hit,
        success=float(np.mean([run["success"] for run in runs])) if first_hit else None,
        episodes=len(runs[0]["returns"]),
        seeds=len(runs),
        train_seconds=float(np.mean([run["cpu_seconds"] for run in runs])),
    )
