"""`ldcq bench training`: samples per second of VAE and prior training, against plain loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.plain import PlainPrior, PlainVae
from benchmarks.result import BenchmarkResult
from benchmarks.stopwatch import Stopwatch, interleave
from ldcq.config import load, override
from ldcq.data.episodes import Episode, Episodes, Spaces, join_episodes
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows, make_windows
from ldcq.prior_learner import PriorLearner
from ldcq.vae.learner import VaeLearner

EPISODE_STEPS = 400
CPU = torch.device("cpu")


def run(
    preset: str = "demo",
    steps: int = 20_000,
    state_dim: int = 4,
    action_dim: int = 2,
    rounds: int = 60,
) -> BenchmarkResult:
    """Measures updates on random data, single-threaded and interleaved.

    Args:
        preset: Whose sizes; `demo` or `paper`, or the path of a configuration.
        steps: Steps of the data set.
        state_dim: S; 4 is PointMaze's.
        action_dim: A.
        rounds: Updates measured.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = override(load(preset), {"device": "cpu", "prior.implementation": "diffusion"})
    # Of Eq. 4's sum over a window's steps the preset may draw some; the plain loop sums all.
    whole = override(config, {"vae.decoded_steps": None})
    windows = make_windows(
        _episodes(max(steps, 2 * config.horizon), state_dim, action_dim), config.horizon, 0, 0
    )
    table = _table(windows, config.vae.latent_dim)
    updates: dict[str, Callable[[int], object]] = {
        "vae plain": PlainVae(config, windows).update,
        "vae ldcq": VaeLearner(config, windows, CPU).update,
        "vae ldcq, all steps": VaeLearner(whole, windows, CPU).update,
        "prior plain": PlainPrior(config, table).update,
        "prior ldcq": PriorLearner(config, table, CPU).update,
    }
    for update in updates.values():
        for step in range(3):
            update(step)
    watches = {name: Stopwatch() for name in updates}
    interleave(updates, watches, rounds, first=3)
    sizes = {"vae": config.vae.batch_size, "prior": config.prior.batch_size}
    return _result(preset, {name: sizes[name.split()[0]] for name in updates}, watches)


def _result(preset: str, batches: dict[str, int], watches: dict[str, Stopwatch]) -> BenchmarkResult:
    milliseconds = {name: watch.milliseconds() for name, watch in watches.items()}
    summary = {
        f"{stage}_ratio_to_plain": milliseconds[f"{stage} plain"] / milliseconds[f"{stage} ldcq"]
        for stage in ("vae", "prior")
    }
    same = milliseconds["vae plain"] / milliseconds["vae ldcq, all steps"]
    summary["vae_ratio_all_steps"] = same
    return BenchmarkResult(
        "training",
        summary,
        [
            {
                "trainer": name,
                "batch": batches[name],
                "update_ms": taken,
                "samples_per_second": 1e3 * batches[name] / taken,
            }
            for name, taken in milliseconds.items()
        ],
        [
            f"Sizes of the preset {preset!r}; single-threaded; medians of CPU time of updates "
            "taken in turns. The plain loops: a DataLoader over windows cut out one by one, all "
            "steps of a window decoded. Ours decodes as many as the preset says, drawn at random, "
            "which leaves the gradient unbiased; `all steps` does the same work as the plain loop.",
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
