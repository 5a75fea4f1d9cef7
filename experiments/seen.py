"""What rows say, in sentences: the first note of a page, and its line in the index of all."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.experiment import Difference, PaperValue, Row
from experiments.page import shown, standing
from services.actor.report.wording import method_label
from services.actor.scores import Estimate

_AGAINST = {"ahead": "ahead of", "behind": "behind", "open": "open against"}
TASK = "task"
"""The setting of rows that tells the task, where there are several."""
_VARIED = {
    TASK: "on {}",
    "observed": "from {}",
    "horizon": "at H = {}",
    "candidates": "at n = {}",
}


def headline(rows: Sequence[Row], differences: Sequence[Difference]) -> str:
    """The scores of the method that the differences begin with, and how it stands to the others."""
    row = next(row for row in rows if row.method == differences[0].first)
    scores = {
        "success %": row.success_score,
        "return": row.episode_return,
        "first hit": row.first_hit,
    }
    found = [f"{name} {shown(score)}" for name, score in scores.items() if score is not None]
    return f"{method_label(row.method)}: {', '.join(found)}. {compared(differences)}"


def compared(differences: Sequence[Difference]) -> str:
    """Which method the first one of the differences is ahead of, and where, by the paired
    intervals; which it is behind; and which questions are open.
    """
    found: dict[str, dict[str, list[str]]] = {stands: {} for stands in _AGAINST}
    for each in differences:
        varied = [_VARIED.get(name, f"at {name} = {{}}") for name in each.settings]
        where = [text.format(is_) for text, is_ in zip(varied, each.settings.values(), strict=True)]
        other = " ".join([method_label(each.second), *where])
        for name, score in each.scores.items():
            scores = found[standing(score)].setdefault(other, [])
            scores.append(f"{name} {shown(score)}")
    said = [
        f"{_AGAINST[stands]} "
        + ", ".join(f"{other} ({', '.join(scores)})" for other, scores in places.items())
        for stands, places in found.items()
        if places
    ]
    return f"By paired differences, {method_label(differences[0].first)}: {'; '.join(said)}."


def beside_paper(rows: Sequence[Row]) -> str:
    """How the first hit of each row stands to the paper's number, which comes from other data."""
    said = [
        f"{method_label(row.method)} {shown(row.first_hit)}, the paper {row.paper.text()}: "
        f"{_place(row.first_hit, row.paper)}"
        for row in rows
        if row.first_hit is not None and row.paper is not None
    ]
    return f"First hit beside the paper's number, on other data: {'; '.join(said)}."


def _place(score: Estimate, paper: PaperValue) -> str:
    if score.ci_low > paper.value:
        return "above it"
    return "below it" if score.ci_high < paper.value else "the interval holds it"
