"""`ldcq bench learner`: critic updates per second with cached candidates, against Algorithm 1 as it
reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.plain import PlainLearner
from benchmarks.result import BenchmarkResult
from benchmarks.stopwatch import Stopwatch, interleave, split
from ldcq.config import Config
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CachedCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions

PARTS = ("sampling", "candidates", "target", "priorities")


def run(
    windows: int = 1_000_000,
    candidates: int = 100,
    batch: int = 128,
    state_dim: int = 29,
    latent_dim: int = 16,
    warm_up: int = 200,
    rounds: int = 60,
) -> BenchmarkResult:
    """Measures, single-threaded and interleaved, the paper's critic on random windows.

    Args:
        windows: M, in the replay.
        candidates: n, per next state.
        batch: B.
        state_dim: S; 29 is AntMaze's.
        latent_dim: Z.
        warm_up: Updates of ours before: how many candidates the second network is asked about
            depends on what both have learned.
        rounds: Updates measured.
    """
    torch.set_num_threads(1)
    counts = {"batch_size": batch, "candidates": candidates, "cached_candidates": candidates}
    critic = {**counts, "target": "max_min", "candidate_source": "cache"}
    config = Config.model_validate({"device": "cpu", "critic": critic})
    transitions, cached = problem(windows, candidates, state_dim, latent_dim)
    watches = {"plain": Stopwatch(), "ldcq": Stopwatch()}
    plain = PlainLearner(
        config.critic,
        transitions,
        torch.from_numpy(overlapping(cached.astype(np.float32), candidates)),
        watches["plain"].timed,
    )
    ours = _ours(config, transitions, overlapping(cached, candidates), watches["ldcq"])
    for step in range(warm_up):
        ours.update(step)
    for step in range(3):
        plain.update(step)
    steps = {"plain": plain.update, "ldcq": ours.update}
    interleave(steps, watches, rounds, first=warm_up)
    return _result(watches)


def _result(watches: dict[str, Stopwatch]) -> BenchmarkResult:
    rows: list[dict[str, Any]] = [
        {
            "implementation": name,
            "updates_per_second": 1e3 / watch.milliseconds(),
            **split(watch, PARTS, "gradient"),
        }
        for name, watch in watches.items()
    ]
    plain, ours = rows
    replay = [row["sampling_ms"] + row["priorities_ms"] for row in rows]
    totals = [watch.milliseconds() for watch in watches.values()]
    return BenchmarkResult(
        "learner",
        {
            "ratio_to_plain": totals[0] / totals[1],
            "ratio_without_replay": (totals[0] - replay[0]) / (totals[1] - replay[1]),
            "target_ratio": plain["target_ms"] / ours["target_ms"],
        },
        rows,
        [
            "Single-threaded; medians of CPU time of updates taken in turns. The plain learner "
            "repeats the state for every candidate, asks both target networks about all of them, "
            "and draws from its replay with numpy's choice.",
        ],
    )


def problem(
    windows: int, candidates: int, state_dim: int, latent_dim: int
) -> tuple[Transitions, NDArray[np.float16]]:
    """Windows whose reward depends on state and latent, and latents to be used as candidates."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    state, latent_mean = normal(windows, state_dim), normal(windows, latent_dim)
    direction = normal(state_dim, latent_dim) / (state_dim * latent_dim) ** 0.5
    transitions = Transitions(
        state=state,
        latent_mean=latent_mean,
        latent_std=torch.full_like(latent_mean, 0.3),
        reward=((state @ direction) * latent_mean).sum(1).tanh(),
        discount=torch.full((windows,), 0.995**30),
        next_state=normal(windows, state_dim),
    )
    latents = normal(windows + candidates - 1, latent_dim)
    return transitions, latents.numpy().astype(np.float16)


def overlapping(latents: NDArray[Any], candidates: int) -> NDArray[Any]:
    """Candidates of every window, (M, n, Z), as a view: window i has the latents i to i + n - 1.

    They are read as they would be from a cache of their own, which for a million windows takes
    gigabytes.
    """
    view = sliding_window_view(latents, candidates, axis=0, writeable=True)
    return np.swapaxes(view, 1, 2)


def _ours(
    config: Config, transitions: Transitions, cached: NDArray[np.float16], watch: Stopwatch
) -> LDCQ:
    replay = PrioritisedReplay(config.critic.replay, len(transitions))
    source = CachedCandidates(config, cached, replay)
    learner = LDCQ(config, transitions, replay, source)
    watch.attach(replay, draw="sampling", update="priorities")
    watch.attach(source, take="candidates")
    watch.attach(learner, _targets="target")
    return learner
