"""Latency against return over solver x steps x n, and whether a fast solver still samples what the
prior learned: modes, what lies between them, and the critic's maxima.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.result import BenchmarkResult
from benchmarks.solver_agreement import Agreement
from benchmarks.solver_plot import draw_front, on_front
from benchmarks.solver_subject import Setting, Subject, load_subject
from common.store import Store
from ldcq.config import load
from ldcq.latent_prior import OptionError
from ldcq.policies.base import StatefulPolicy
from services.actor.rollout import rollout
from services.actor.scores import score

SOLVERS = ("ddpm=5,10,20", "ddim=5,10,20", "dpmpp_2m=3,5,10,20")
"""Without steps beyond the prior's T. DDPM with all T is always measured beside them."""

EPISODES, CANDIDATES = 25, 50
WALK_UPDATES = 1500
SINGLES = 5
"""Decisions for one state timed in every round."""


def run(
    config: str,
    store: str,
    *,
    solvers: Sequence[str] = (),
    candidates: Sequence[int] = (CANDIDATES,),
    episodes: int = EPISODES,
    overrides: Sequence[str] = (),
    out: str | None = None,
    rounds: int = 5,
    walk_updates: int = WALK_UPDATES,
) -> BenchmarkResult:
    """Measures every solver x steps x n on the trained models of a store.

    Args:
        config: The run's configuration.
        store: Holds a VAE, a diffusion prior and a critic.
        solvers: NAME=STEPS[,STEPS...] each; none: `SOLVERS`.
        candidates: Values of n.
        episodes: Episodes of each evaluation, from the same seeds for all.
        overrides: Of the configuration.
        out: Folder for `solvers.csv` and `solvers.png`; None: the store's `benchmarks`.
        rounds: Latency is the median of so many, taken in turns.
        walk_updates: Training steps of the random walk's prior.

    Raises:
        ValueError: A solver is not NAME=STEPS, the prior has no such solver or fewer steps, or it
            is not a diffusion model with held-out windows.
        StoreError: A model is missing.
    """
    console = Console(stderr=True)
    with console.status("training a prior on the random walk") as status:
        subject = load_subject(load(config, overrides), Store(store), walk_updates)
        reference = Setting("ddpm", subject.prior.description.training_steps)
        defaults = [s for s in parse_settings(SOLVERS) if s.steps <= reference.steps]
        settings = list(dict.fromkeys([*(parse_settings(solvers) or defaults), reference]))
        for setting in settings:
            _check(subject, setting)
        status.update("timing decisions")
        seconds = _latencies(subject, settings, candidates, rounds)
        agreement = Agreement(subject, reference, candidates)
        rows: list[dict[str, Any]] = []
        for setting in settings:
            status.update(f"{setting.solver} with {setting.steps} steps: coverage and rollouts")
            modes = agreement.modes(setting)
            for n in candidates:
                row = {"solver": setting.solver, "steps": setting.steps, "n": n}
                row |= dict(zip(("seconds_1", "seconds_50"), seconds[setting, n], strict=True))
                row |= _scores(subject, setting, n, episodes)
                rows.append({**row, **modes, **agreement.values(setting, n)})
    folder = Path(out) if out else Path(store) / "benchmarks"
    return _result(rows, reference, folder)


def parse_settings(solvers: Sequence[str]) -> list[Setting]:
    """`ddim=5,10` as settings.

    Raises:
        ValueError: It does not look like that.
    """
    settings = []
    for text in solvers:
        name, _, counts = text.partition("=")
        if not name or not all(count.isdecimal() for count in counts.split(",")):
            raise ValueError(
                f"--solver is {text!r}, expected NAME=STEPS[,STEPS...], as in ddim=5,10"
            )
        settings += [Setting(name, int(count)) for count in counts.split(",")]
    return settings


def _check(subject: Subject, setting: Setting) -> None:
    try:
        subject.prior.sampler.resolve(subject.options(setting))
    except OptionError as error:
        raise ValueError(f"--solver {setting.solver}={setting.steps}: {error}") from error


def _latencies(
    subject: Subject, settings: Sequence[Setting], candidates: Sequence[int], rounds: int
) -> dict[tuple[Setting, int], tuple[float, float]]:
    """Median seconds of one decision for 1 and for 50 states at once, all settings in turns."""
    states = subject.table.state[:50]
    points = [(setting, n) for setting in settings for n in candidates]
    taken: dict[tuple[Setting, int], tuple[list[float], list[float]]] = {
        point: ([], []) for point in points
    }
    for seed in range(rounds):
        for setting, n in points:
            policy = subject.policy(setting, n)
            # Milliseconds for one state: several a round, so that the median is no pause's.
            for counts, place in (((1,) * SINGLES, 0), ((len(states),), 1)):
                for count in counts:
                    start = time.perf_counter()
                    policy.choose(states[:count], None, seed)
                    taken[setting, n][place].append(time.perf_counter() - start)
    return {
        point: (statistics.median(single), statistics.median(many))
        for point, (single, many) in taken.items()
    }


def _scores(subject: Subject, setting: Setting, candidates: int, episodes: int) -> dict[str, float]:
    evaluation, task = subject.config.evaluation, subject.task
    played = rollout(
        task.make_env,
        StatefulPolicy(subject.policy(setting, candidates), evaluation.seed),
        episodes=episodes,
        environments=evaluation.environments,
        seed=evaluation.seed,
        max_episode_steps=task.max_episode_steps,
    )
    scores = score(
        [episode.rewards for episode in sorted(played, key=lambda episode: episode.index)],
        reference=task.reference_scores,
        first_hit=task.first_hit,
        max_episode_steps=task.max_episode_steps,
        confidence=evaluation.confidence,
        seed=evaluation.seed,
    )
    columns = {}
    for name, estimate in (("return", scores.true_return), ("first_hit", scores.first_hit)):
        if estimate is not None:
            columns[name] = estimate.mean
            columns[f"{name}_low"], columns[f"{name}_high"] = estimate.ci_low, estimate.ci_high
    if scores.success is not None:
        columns["success"] = scores.success
    return columns


def _result(rows: list[dict[str, Any]], reference: Setting, folder: Path) -> BenchmarkResult:
    judged = "first_hit" if "first_hit" in rows[0] else "return"
    for row, front in zip(rows, on_front(rows, judged), strict=True):
        row["front"] = front
    base = next(r for r in rows if (r["solver"], r["steps"]) == (reference.solver, reference.steps))
    fastest = min(rows, key=lambda row: row["seconds_1"])
    passing = min((r for r in rows if passes(r, base, judged)), key=lambda row: row["seconds_1"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "solvers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw_front(rows, folder / "solvers.png")
    shown = ["solver", "steps", "n", "seconds_1", "seconds_50", "return", "first_hit", "walk_gap"]
    shown += ["exits_covered", "q_error", "q_bias", "q_rank", "outside", "outside_chosen", "front"]
    return BenchmarkResult(
        name="solvers",
        summary={
            "fastest_passing_speedup": base["seconds_1"] / passing["seconds_1"],
            "fastest_passing_return_difference": passing[judged] - base[judged],
            "fastest_speedup": base["seconds_1"] / fastest["seconds_1"],
        },
        rows=[{column: row[column] for column in shown if column in row} for row in rows],
        notes=[
            f"fastest that passes all three tests: {passing['solver']} with {passing['steps']} "
            f"steps, n = {passing['n']}; compared with ddpm and all {reference.steps} steps",
            "passes: no more than 2 % of the walk's samples in the gap beyond the reference, 95 % "
            "of the ways out of junctions kept, max Q on average no farther off than chance moves "
            "one state's, its rank correlation at most 0.05 lower, and "
            f"{judged} not below the reference's interval",
            f"full table and plot: {folder / 'solvers.csv'}, {folder / 'solvers.png'}",
        ],
    )


def passes(row: Mapping[str, Any], base: Mapping[str, Any], judged: str) -> bool:
    """Whether a setting samples like the reference: its modes, its best candidates, its return.

    Args:
        row: The setting's.
        base: The reference's.
        judged: Which return, `return` or `first_hit`.
    """
    return bool(
        row is base
        or (
            row["walk_gap"] <= base["walk_gap"] + 0.02
            and row.get("exits_covered", 1.0) >= 0.95
            and row["q_rank"] >= base["q_rank"] - 0.05
            and abs(row["q_bias"]) <= base["q_error"]
            and row[judged] >= base[f"{judged}_low"]
        )
    )
