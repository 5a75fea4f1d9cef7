"""Rows of the same experiment from elsewhere: another CPU, or fewer of its instructions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.experiment import Findings, Row
from experiments.page import PAGE
from services.actor.report.wording import method_label
from services.actor.scores import Estimate


def with_elsewhere(findings: Findings, folder: Path, seeds: int) -> Findings:
    """The findings with the rows of every `<folder>/<name>/results.json` below their own.

    Args:
        findings: Of an experiment.
        folder: Where its page goes; runs elsewhere wrote theirs to folders in it.
        seeds: Of the experiment; a note tells of results over another number.
    """
    for file in sorted(folder.glob("*/results.json")):
        content, name = json.loads(file.read_text()), file.parent.name
        rows = [_row(row, name) for row in content["rows"] if row["seeds"]]
        others = "" if len(content["seeds"]) == seeds else f", {len(content['seeds'])} seeds"
        marked = f"[`{name}`]({name}/{PAGE})"
        note = f"Rows marked {marked} were trained and played on {content['hardware']}{others}."
        apart = [
            f"{method_label(difference['first'])} - {method_label(difference['second'])} in "
            f"{score.replace('_', ' ')}: "
            f"{estimate['mean']:.1f} [{estimate['ci_low']:.1f}, {estimate['ci_high']:.1f}]"
            for difference in content["differences"]
            for score in ("return", "first_hit")
            if (estimate := difference[score])
        ]
        findings = replace(
            findings,
            rows=[*findings.rows, *rows],
            notes=[
                *findings.notes,
                f"{note} There, paired: {'; '.join(apart)}." if apart else note,
            ],
        )
    return findings


def _row(row: dict[str, Any], name: str) -> Row:
    own = {"method", "return", "first_hit", "success", "success_score", "episodes", "seeds"}
    return Row(
        f"{method_label(row['method'])} ({name})",
        settings={
            key: value for key, value in row.items() if key not in own | {"train_seconds", "paper"}
        },
        episode_return=_estimate(row["return"]),
        first_hit=_estimate(row["first_hit"]),
        success=row["success"],
        success_score=_estimate(row.get("success_score")),
        episodes=row["episodes"],
        seeds=row["seeds"],
        train_seconds=row["train_seconds"],
    )


def _estimate(value: dict[str, float] | None) -> Estimate | None:
    return None if value is None else Estimate(**value)
