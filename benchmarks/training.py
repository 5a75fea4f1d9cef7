"""`ldcq bench training`: samples per second of VAE and prior training, against plain loops."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from benchmarks.plain import PlainPrior, PlainVae
from benchmarks.result import BenchmarkResult
from benchmarks.stopwatch import Device, Stopwatch, clock_of, interleave
from ldcq.config import load, override
from ldcq.data.episodes import Episode, Episodes, Spaces, join_episodes
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows, make_windows
from ldcq.learning.captured import WARM_UP
from ldcq.prior_learner import PriorLearner
from ldcq.vae.learner import VaeLearner

EPISODE_STEPS = 400
BURST = 20
"""Updates that a GPU is given at once, as in training, where nobody waits for each."""


def run(
    preset: str = "demo",
    steps: int = 20_000,
    state_dim: int = 4,
    action_dim: int = 2,
    rounds: int = 60,
    device: Device = "cpu",
) -> BenchmarkResult:
    """Measures updates on random data in turns, on a CPU with a single thread.

    Args:
        preset: Whose sizes; `demo` or `paper`, or the path of a configuration.
        steps: Steps of the data set.
        state_dim: S; 4 is PointMaze's.
        action_dim: A.
        rounds: Of measurements, on a GPU of `BURST` updates each.
        device: Of all trainers.

    Raises:
        DeviceError: There is no CUDA device.
    """
    clock, place = clock_of(device), torch.device(device)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = override(load(preset), {"device": device, "prior.implementation": "diffusion"})
    # Of Eq. 4's sum over a window's steps the preset may draw some; the plain loop sums all.
    whole = override(config, {"vae.decoded_steps": None})
    windows = make_windows(
        _episodes(max(steps, 2 * config.horizon), state_dim, action_dim), config.horizon, 0, 0
    )
    table = _table(windows, config.vae.latent_dim)
    trainers: dict[str, _Trainer] = {
        "vae plain": PlainVae(config, windows, place),
        "vae ldcq": VaeLearner(config, windows, place),
        "vae ldcq, all steps": VaeLearner(whole, windows, place),
        "prior plain": PlainPrior(config, table, place),
        "prior ldcq": PriorLearner(config, table, place),
    }
    if device == "cuda":
        for name, learner in (
            ("vae", VaeLearner(config, windows, place)),
            ("prior", PriorLearner(config, table, place)),
        ):
            learner._descent.do_not_capture()
            trainers[f"{name} ldcq, no graph"] = learner
    updates = {name: trainer.update for name, trainer in trainers.items()}
    warm_up = WARM_UP + 2
    for update in updates.values():
        for step in range(warm_up):
            update(step)
    watches = {name: Stopwatch(clock) for name in updates}
    burst = BURST if device == "cuda" else 1
    learners = [each for each in trainers.values() if isinstance(each, VaeLearner | PriorLearner)]
    # Their schedules end with the training.
    rounds = max(1, min(rounds, (min(each.total for each in learners) - warm_up) // burst))
    interleave(updates, watches, rounds, first=warm_up, burst=burst)
    sizes = {"vae": config.vae.batch_size, "prior": config.prior.batch_size}
    batches = {name: sizes[name.split()[0]] for name in updates}
    return _result(preset, batches, watches, device)


class _Trainer(Protocol):
    def update(self, step: int, /) -> object: ...


def _result(
    preset: str, batches: dict[str, int], watches: dict[str, Stopwatch], device: Device = "cpu"
) -> BenchmarkResult:
    milliseconds = {name: watch.milliseconds() for name, watch in watches.items()}
    summary = {
        f"{stage}_ratio_to_plain": milliseconds[f"{stage} plain"] / milliseconds[f"{stage} ldcq"]
        for stage in ("vae", "prior")
    }
    same = milliseconds["vae plain"] / milliseconds["vae ldcq, all steps"]
    summary["vae_ratio_all_steps"] = same
    for name, taken in milliseconds.items():
        stage, _, variant = name.partition(" ldcq, ")
        if variant == "no graph":
            summary[f"{stage}_ratio_to_no_graph"] = taken / milliseconds[f"{stage} ldcq"]
    timed = "single-threaded; medians of CPU time of updates taken in turns"
    if device == "cuda":
        timed = f"medians of the time on the clock of {BURST} updates each, taken in turns"
    return BenchmarkResult(
        "training",
        summary,
        [
            {
                "trainer": name,
                "batch": batches[name],
                "update_ms": taken,
                "updates_per_second": 1e3 / taken,
                "samples_per_second": 1e3 * batches[name] / taken,
            }
            for name, taken in milliseconds.items()
        ],
        [
            f"Sizes of the preset {preset!r}; {timed}. The plain loops: a DataLoader over windows "
            "cut out one by one, all steps of a window decoded. Ours decodes as many as the preset "
            "says, drawn at random, which leaves the gradient unbiased; `all steps` does the same "
            "work as the plain loop. On a GPU `no graph` launches the kernels of ours one by one.",
        ],
    )


def _episodes(steps: int, state_dim: int, action_dim: int) -> Episodes:
    rng = np.random.default_rng(0)

    def episode(length: int) -> Episode:
        ends = np.zeros(length, np.bool_)
        ends[-1] = True
        return Episode(
            observations=rng.normal(size=(length + 1, state_dim)).astype(np.float32),
            actions=rng.uniform(-1, 1, (length, action_dim)).astype(np.float32),
            rewards=rng.normal(size=length).astype(np.float32),
            terminations=np.zeros(length, np.bool_),
            truncations=ends,
        )

    lengths = [EPISODE_STEPS] * (steps // EPISODE_STEPS) or [steps]
    bound = np.ones(action_dim)
    return join_episodes(
        [episode(length) for length in lengths], Spaces.box(state_dim, -bound, bound), "random"
    )


def _table(windows: Windows, latent_dim: int) -> LatentTable:
    rng = np.random.default_rng(1)
    rows = np.arange(len(windows))
    mean = rng.normal(size=(len(rows), latent_dim)).astype(np.float32)
    state = windows.first_states(rows)
    return LatentTable(
        state=state,
        latent_mean=mean,
        latent_std=np.full_like(mean, 0.3),
        reward=np.zeros(len(rows), np.float32),
        discount=np.ones(len(rows), np.float32),
        next_state=state,
        episode=windows.episode,
        step=windows.step,
        validation=windows.validation,
    )
