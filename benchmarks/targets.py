"""`ldcq bench targets`: critic updates per second of every rule for V, and of latents valued for
fewer steps than H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.learner import overlapping, problem
from benchmarks.result import BenchmarkResult
from benchmarks.stopwatch import Stopwatch, interleave
from ldcq.config import load, override
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CachedCandidates, NoCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions

PLAIN: dict[str, Any] = {"dueling": False}
SUBJECTS: dict[str, tuple[dict[str, Any], Sequence[int]]] = {
    "max_min, n = 500": ({**PLAIN, "target": "max_min", "candidates": 500}, ()),
    "max_min": ({**PLAIN, "target": "max_min"}, ()),
    "argmax_min": ({**PLAIN, "target": "argmax_min"}, ()),
    "mean": ({**PLAIN, "target": "mean"}, ()),
    "expectile_prior": ({**PLAIN, "target": "expectile_prior"}, ()),
    "expectile_data": ({**PLAIN, "target": "expectile_data"}, ()),
    "expectile_return": ({**PLAIN, "target": "expectile_return"}, ()),
    "HL-Gauss, 64 bins": (
        {**PLAIN, "target": "expectile_return", "bounds": (0.0, 200.0), "bins": 64},
        (),
    ),
    "lower bound of 4": (
        {**PLAIN, "target": "expectile_return", "networks": 4, "deviations": 1.0},
        (),
    ),
    "dueling": ({"target": "expectile_return"}, ()),
    "dueling, 3 lengths": ({"target": "expectile_return"}, (10, 20)),
}
"""What is changed of section `critic`, and `lengths`; n = 16 where nothing is said."""


def run(
    preset: str = "demo",
    windows: int = 100_000,
    state_dim: int = 4,
    warm_up: int = 20,
    rounds: int = 200,
) -> BenchmarkResult:
    """Measures, single-threaded and interleaved, updates on random windows; candidates are there.

    Args:
        preset: Gives the sizes of the critic: a preset's name or a file.
        windows: M, in the replay.
        state_dim: S.
        warm_up: Updates before.
        rounds: Updates measured.
    """
    torch.set_num_threads(1)
    config = override(load(preset, []), {"device": "cpu"})
    most = max(changes.get("candidates", 0) for changes, _ in SUBJECTS.values())
    transitions, latents = problem(windows, most, state_dim, config.vae.latent_dim)
    watches, steps = {}, {}
    for name, (changes, lengths) in SUBJECTS.items():
        changed = {"candidates": 16, **changes}
        keys = {f"critic.{key}": value for key, value in changed.items()}
        settings = override(config, {**keys, "lengths": lengths, "actor.lookahead": 0.0})
        replay = PrioritisedReplay(settings.critic.replay, windows)
        source: CachedCandidates | NoCandidates = NoCandidates(settings, replay)
        if settings.critic.needs_candidates:
            cached = overlapping(latents, changed["candidates"])[:windows]
            source = CachedCandidates(settings, cached, replay)
        learner = LDCQ(settings, _parted(transitions, len(lengths)), replay, source)
        steps[name], watches[name] = learner.update, Stopwatch()
        for step in range(warm_up):
            learner.update(step)
    interleave(steps, watches, rounds, first=warm_up)
    return _result({name: watch.milliseconds() for name, watch in watches.items()})


def _result(milliseconds: dict[str, float]) -> BenchmarkResult:
    slowest = milliseconds["max_min, n = 500"]
    return BenchmarkResult(
        "targets",
        {
            "lengths_cost": milliseconds["dueling, 3 lengths"] / milliseconds["dueling"],
            "value_network_ratio": slowest / milliseconds["expectile_return"],
        },
        [
            {"critic": name, "updates_per_second": 1e3 / each, "ratio": slowest / each}
            for name, each in milliseconds.items()
        ],
        [
            "Single-threaded; medians of CPU time of updates taken in turns, n = 16 where nothing "
            "is said. Candidates are drawn beforehand: the rules that look at them also cost n "
            "samples of the prior for each window. `ratio` is to the paper's target with 500 "
            "candidates.",
        ],
    )


def _parted(transitions: Transitions, count: int) -> Transitions:
    """The windows with what is known of `count` shorter executions."""
    if not count:
        return transitions
    return replace(
        transitions,
        part_reward=transitions.reward.unsqueeze(1).repeat(1, count),
        part_state=transitions.next_state.unsqueeze(1).repeat(1, count, 1),
    )
