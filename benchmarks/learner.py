"""`ldcq bench learner`: critic updates per second with cached candidates, against Algorithm 1 as it
reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.plain import CPU, PlainLearner
from benchmarks.result import BenchmarkResult
from benchmarks.sampler import paper_prior
from benchmarks.stopwatch import Device, Stopwatch, clock_of, interleave, split
from ldcq.config import Config, load, override
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import CachedCandidates, OnlineCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions
from ldcq.learning.captured import WARM_UP

PARTS = ("sampling", "candidates", "target", "priorities")
ONLINE: Mapping[str, Mapping[str, Any]] = {
    "online, the paper's": {},
    "online, V and 8 samples": {"target": "expectile_prior", "candidates": 8},
}
"""Critics that draw from the prior, and what each changes of preset `paper`."""


def run(
    windows: int = 1_000_000,
    candidates: int = 100,
    batch: int = 128,
    state_dim: int = 29,
    latent_dim: int = 16,
    warm_up: int = 200,
    rounds: int = 60,
    device: Device = "cpu",
    online: Mapping[str, Mapping[str, Any]] | None = None,
) -> BenchmarkResult:
    """Measures the paper's critic on random windows, interleaved, on a CPU with a single thread.

    Args:
        windows: M, in the replay.
        candidates: n, per next state.
        batch: B.
        state_dim: S; 29 is AntMaze's.
        latent_dim: Z.
        warm_up: Updates of ours before: how many candidates the second network is asked about
            depends on what both have learned.
        rounds: Updates measured.
        device: Of both learners.
        online: Critics, by name, that draw their candidates from the paper's prior in the same
            process, and what each changes of preset `paper`; None: `ONLINE` on a GPU, none on a
            CPU, where an update takes half a minute.

    Raises:
        DeviceError: There is no CUDA device.
    """
    clock, place = clock_of(device), torch.device(device)
    torch.set_num_threads(1)
    counts = {"batch_size": batch, "candidates": candidates, "cached_candidates": candidates}
    critic = {**counts, "target": "max_min", "candidate_source": "cache"}
    config = Config.model_validate({"device": device, "critic": critic})
    transitions, cached = problem(windows, candidates, state_dim, latent_dim, place)
    # What waits for a GPU after each part takes longer as a whole: there the parts are not timed.
    parts = PARTS if device == "cpu" else ()
    watches = {"plain": Stopwatch(clock), "ldcq": Stopwatch(clock)}
    plain = PlainLearner(
        config.critic,
        transitions,
        torch.from_numpy(overlapping(cached.astype(np.float32), candidates)),
        watches["plain"].timed if parts else lambda _, function: function,
    )
    replay = PrioritisedReplay(config.critic.replay, windows)
    source = CachedCandidates(config, overlapping(cached, candidates), replay)
    ours = LDCQ(config, transitions, replay, source)
    if parts:
        _attach(watches["ldcq"], ours, replay, source)
    for step in range(warm_up):
        ours.update(step)
    for step in range(3):
        plain.update(step)
    steps: dict[str, Callable[[int], object]] = {"plain": plain.update, "ldcq": ours.update}
    if online is None:
        online = ONLINE if device == "cuda" else {}
    for name, changes in online.items():
        steps[name] = _counted(_online(changes, batch, transitions).update)
        watches[name] = Stopwatch(clock)
        for step in range(WARM_UP + 2):
            steps[name](step)
    interleave(steps, watches, rounds, first=warm_up)
    return _result(watches, parts, online)


def _counted(update: Callable[[int], object]) -> Callable[[int], object]:
    """Updates with numbers of their own, whatever they are given: batches are drawn ahead of them,
    one after the other.
    """
    numbers = itertools.count()
    return lambda _: update(next(numbers))


def _online(changes: Mapping[str, Any], batch: int, transitions: Transitions) -> LDCQ:
    """Algorithm 1 with the paper's prior, of random weights, in this process."""
    device = transitions.device
    keys = {f"critic.{key}": value for key, value in {**changes, "batch_size": batch}.items()}
    config = override(load("paper"), {"device": device.type, **keys})
    prior = paper_prior(transitions.state.shape[1]).to(device).sampler()
    replay = PrioritisedReplay(config.critic.replay, len(transitions))
    return LDCQ(config, transitions, replay, OnlineCandidates(config, prior, transitions, replay))


def _result(
    watches: Mapping[str, Stopwatch],
    parts: Sequence[str] = PARTS,
    online: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> BenchmarkResult:
    rows: list[dict[str, Any]] = [
        {
            "implementation": name,
            "updates_per_second": 1e3 / watch.milliseconds(),
            "update_ms": watch.milliseconds(),
            **(split(watch, parts, "gradient") if parts else {}),
        }
        for name, watch in watches.items()
    ]
    plain, ours = rows[:2]
    summary = {"ratio_to_plain": plain["update_ms"] / ours["update_ms"]}
    if parts:
        rest = [row["update_ms"] - row["sampling_ms"] - row["priorities_ms"] for row in rows[:2]]
        summary["ratio_without_replay"] = rest[0] / rest[1]
        summary["target_ratio"] = plain["target_ms"] / ours["target_ms"]
    timed = "CPU time of updates, single-threaded" if parts else "the time of updates on the clock"
    notes = [
        f"Medians of {timed}, taken in turns; candidates come from a cache. The plain learner "
        "repeats the state for every candidate, asks both target networks about all of them, "
        "and draws from its replay with numpy's choice."
    ]
    notes += [
        f"{name}: preset `paper`, candidates drawn in this process for every update"
        + "".join(f", {key} {value}" for key, value in changes.items())
        + "."
        for name, changes in online.items()
    ]
    return BenchmarkResult("learner", summary, rows, notes)


def problem(
    windows: int,
    candidates: int,
    state_dim: int,
    latent_dim: int,
    device: torch.device = CPU,
) -> tuple[Transitions, NDArray[np.float16]]:
    """Windows whose reward depends on state and latent, on a device, and latents to be used as
    candidates.
    """
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    state, latent_mean = normal(windows, state_dim), normal(windows, latent_dim)
    direction = normal(state_dim, latent_dim) / (state_dim * latent_dim) ** 0.5
    columns = {
        "state": state,
        "latent_mean": latent_mean,
        "latent_std": torch.full_like(latent_mean, 0.3),
        "reward": ((state @ direction) * latent_mean).sum(1).tanh(),
        "discount": torch.full((windows,), 0.995**30),
        "next_state": normal(windows, state_dim),
    }
    transitions = Transitions(**{name: column.to(device) for name, column in columns.items()})
    latents = normal(windows + candidates - 1, latent_dim)
    return transitions, latents.numpy().astype(np.float16)


def overlapping(latents: NDArray[Any], candidates: int) -> NDArray[Any]:
    """Candidates of every window, (M, n, Z), as a view: window i has the latents i to i + n - 1.

    They are read as they would be from a cache of their own, which for a million windows takes
    gigabytes.
    """
    view = sliding_window_view(latents, candidates, axis=0, writeable=True)
    return np.swapaxes(view, 1, 2)


def _attach(
    watch: Stopwatch, learner: LDCQ, replay: PrioritisedReplay, source: CachedCandidates
) -> None:
    watch.attach(replay, draw="sampling", update="priorities")
    watch.attach(source, take="candidates")
    watch.attach(learner, _targets="target")
