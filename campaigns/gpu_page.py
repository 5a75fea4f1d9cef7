"""The page of `make gpu-check`: what its steps found, beside what was set out for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.result import section
from campaigns.gpu_steps import Found
from experiments.page import table

DATA, PAGE = "gpu.json", "README.md"


@dataclass(frozen=True)
class Goal:
    """A figure that was set out for.

    Attributes:
        what: For people.
        step: Whose it is.
        row: What tells its row of the table from others; empty: it is in the summary.
        figure: Its name there.
        bound: What it is to reach on one H100, below or above.
        below: Whether less is better.
    """

    what: str
    step: str
    row: Mapping[str, Any]
    figure: str
    bound: float
    below: bool = False

    def value(self, found: Mapping[str, Found]) -> float | None:
        """The figure; None where it was not measured."""
        result = found[self.step].result if self.step in found else None
        if result is None:
            return None
        rows = result["rows"] if self.row else [result["summary"]]
        for row in rows:
            if self.row.items() <= row.items():
                return float(row[self.figure])
        return None


_RATE = "updates_per_second"
GOALS = (
    Goal("128 x 500 latents, T = 200, w = 1: ms", "sampler",
         {"shape": "128x500", "w": 1.0, "steps": 200}, "call_ms", 40, below=True),
    Goal("1 x 500 latents, T = 200, w = 1: ms", "sampler",
         {"shape": "1x500", "w": 1.0, "steps": 200}, "call_ms", 8, below=True),
    Goal("128 x 100 latents, 10 steps: ms", "sampler",
         {"shape": "128x100", "steps": 10}, "call_ms", 1, below=True),
    Goal("critic, preset `paper`, online: updates/s", "learner",
         {"implementation": "online, the paper's"}, _RATE, 20),
    Goal("critic with V and 8 samples: updates/s", "learner",
         {"implementation": "online, V and 8 samples"}, _RATE, 300),
    Goal("prior of the demo: updates/s", "training-demo", {"trainer": "prior ldcq"}, _RATE, 1500),
    Goal("prior of the paper: updates/s", "training-paper", {"trainer": "prior ldcq"}, _RATE, 1500),
    Goal("VAE of the paper: updates/s", "training-paper", {"trainer": "vae ldcq"}, _RATE, 200),
    Goal("32 actors, joined, of one draw as large", "serving", {}, "actors_ratio_joined", 0.8),
)  # fmt: skip


def page(about: Mapping[str, Any], found: Sequence[Found]) -> str:
    """What was found, for people."""
    by_name = {each.name: each for each in found}
    parts = [
        "# On a GPU",
        f"Written by `make gpu-check`: {about.get('gpu', 'no GPU')}, {about['processor']}, "
        f"{about['cores']} cores, torch {about['torch']}, Python {about['python']}. "
        f"[{DATA}]({DATA}) has all of it.",
        table(["step", "outcome"], [[each.title, each.outcome] for each in found]),
        "## Goals",
        "Bounds are for one H100.",
        table(["what", "measured", "bound"], [_goal(goal, by_name) for goal in GOALS]),
    ]
    for each in found:
        if each.result is None:
            parts += [f"## {each.title}", f"`{each.command}`", f"```\n{each.said.strip()}\n```"]
        else:
            parts += section(each.title, each.command, each.result)
            warned = [line for line in each.said.splitlines() if " without " in line]
            parts += [f"```\n{line}\n```" for line in warned]  # of what was not done as meant
    return "\n\n".join(part for part in parts if part) + "\n"


def _goal(goal: Goal, found: Mapping[str, Found]) -> list[str]:
    value = goal.value(found)
    sign = "at most" if goal.below else "at least"
    return [goal.what, "-" if value is None else f"{value:.3g}", f"{sign} {goal.bound:g}"]
