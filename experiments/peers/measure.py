"""Training of the peers by their library, and their scores."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.result import machine
from common.data import Task, ensure_dataset, fingerprint, load_episodes, load_task
from common.models import model_of
from common.rpc.stage import Progress
from common.store import Store, made
from common.store.files import replace_atomically
from common.training.context import StageContext
from experiments.peers.rows import told
from ldcq.config import Config, DataConfig
from ldcq.data.episodes import DataError, Episodes
from ldcq.vae.frames import Frames
from services.actor.rollout import Episode, Observe, rollout
from services.actor.scores import (
    episode_returns,
    first_hit_returns,
    first_reward_steps,
    normalise,
    successes,
)
from services.vae.compressed import compressed_episodes, ensure_compressed

Array = NDArray[Any]

PYTHON = Path(__file__).parents[2] / ".venv-peers/bin/python"
TRAIN = Path(__file__).with_name("train.py")
N_STEPS = 10
"""Of the returns that the critics learn from: values reach further back per update."""
HIDDEN = [128, 128]
_SHARED = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "batch_size": 256}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "IQL": ("IQL", _SHARED | {"expectile": 0.9, "weight_temp": 3.0}),
    "TD3+BC": ("TD3PlusBC", _SHARED | {"alpha": 2.5}),
}
"""A method to its class in `d3rlpy.algos` and the settings of its configuration."""


class ExportedPolicy:
    """The greedy policy that `train` exported; it has no memory.

    Args:
        file: TorchScript that takes states (E, S) to actions (E, A).
    """

    def __init__(self, file: Path) -> None:
        self._actions = torch.jit.load(str(file))  # type: ignore[no-untyped-call]

    def act(self, observations: Array, goals: Array | None = None) -> Array:  # noqa: ARG002
        """Actions (E, A) for observations (E, S); goals are ignored."""
        with torch.inference_mode():
            actions: Array = self._actions(torch.from_numpy(observations)).numpy()
        return actions

    def reset(self, mask: Array | None = None) -> None:
        """Nothing to forget."""


def transitions(episodes: Episodes, n_steps: int, discount: float) -> dict[str, Array]:
    """Every step of the data with its n-step return, under d3rlpy's names.

    For N steps: `observations` and `next_observations` (N, S), `actions` (N, A), `rewards`
    sum_{i<h} gamma^i r_{t+i} (N, 1), `intervals` h (N, 1) and `terminals` (N, 1), all float32.
    h = n, or fewer where the episode ends before; an episode that was cut off is not terminal.

    Raises:
        DataError: Actions are discrete.
    """
    if episodes.spaces.discrete_actions:
        raise DataError(f"{episodes.name}: actions are discrete, expected a Box")
    steps = np.arange(len(episodes.rewards))
    episode = np.repeat(np.arange(episodes.count), episodes.lengths)
    left = (episodes.offsets + episodes.lengths)[episode] - steps
    taken = np.minimum(left, n_steps)
    returns = np.zeros(len(steps))
    for i in range(n_steps):
        inside = i < taken
        returns[inside] += discount**i * episodes.rewards[steps[inside] + i]
    last = steps + taken - 1
    columns = {
        # An episode has one observation more than steps.
        "observations": episodes.observations[steps + episode],
        "next_observations": episodes.observations[steps + episode + taken],
        "actions": episodes.actions,
        "rewards": returns[:, None],
        "intervals": taken[:, None],
        "terminals": episodes.terminations[last][:, None],
    }
    return {name: np.asarray(values, np.float32) for name, values in columns.items()}


def scores(
    episodes: Sequence[Episode], task: Task, by_success: bool = False
) -> dict[str, float | list[float] | None]:
    """One training seed's scores: `return`, `first_hit` and `success` in the mean, and `returns`,
    `first_hits` and `success_scores` of every episode; normalised where the task has reference
    scores, None for what the task does not define.

    Args:
        episodes: What was played.
        task: Where.
        by_success: Whether the share of successes is the score.
    """
    rewards = [episode.rewards for episode in episodes]
    done = successes([episode.success for episode in episodes], rewards, task.first_hit)
    returns = normalise(episode_returns(rewards), task.reference_scores)
    found: dict[str, float | list[float] | None] = {
        "return": float(returns.mean()), "returns": returns.tolist(),
        "first_hit": None, "first_hits": None,
        "success": None if done is None else float(done.mean()),
        "success_scores": (100.0 * done).tolist() if done is not None and by_success else None,
    }  # fmt: skip
    if task.first_hit:
        steps = first_reward_steps(rewards)
        hits = normalise(first_hit_returns(steps, task.max_episode_steps), task.reference_scores)
        found |= {"first_hit": float(hits.mean()), "first_hits": hits.tolist()}
    return found


def play(
    policy: ExportedPolicy, config: Config, task: Task, observe: Observe | None
) -> list[Episode]:
    """The evaluation's episodes in their order; `observe` makes states of observations that are
    none.
    """
    settings = config.evaluation
    episodes = rollout(
        task.make_env,
        policy,
        episodes=settings.episodes,
        environments=settings.environments,
        seed=settings.seed,
        max_episode_steps=task.max_episode_steps,
        observe=observe,
    )
    return sorted(episodes, key=lambda episode: episode.index)


def measure(
    config: Config,
    store: Path,
    seconds: float,
    seeds: int,
    out: Path,
    methods: Sequence[str] = tuple(PEERS),
) -> None:
    """Trains and plays the peers with every seed, and writes `out` after each.

    Raises:
        DataError: The data or their environment cannot be had, or actions are discrete.
        NotMadeError: The data have images, and the store has no encoder of them.
        CalledProcessError: A training failed; what it said is on stderr.
    """
    opened, encoder = Store(store), ""
    if config.frames is not None:  # before anything is made
        data = fingerprint(config.data, store, frames=config.frames)
        encoder = made(opened, config, "main", (Frames.kind,), dataset=data)[Frames.kind]
    ensure_dataset(config.data, store)
    task = load_task(config, store)
    evaluation = config.evaluation
    header = {
        "data": told(config.data),
        "evaluation": {"episodes": evaluation.episodes, "seed": evaluation.seed},
        "training": {
            "cpu_seconds": seconds,
            "n_steps": N_STEPS,
            "hidden": HIDDEN,
            "settings": {name: s | {"gamma": config.discount} for name, (_, s) in PEERS.items()},
        },
        "machine": {**machine(), "threads": 1},
        **({Frames.kind: encoder} if encoder else {}),
    }
    rows = _known(out, header)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "transitions.npz"
        episodes, observe = _states(config, opened, encoder, task)
        np.savez(file, **transitions(episodes, N_STEPS, config.discount))  # type: ignore[arg-type]
        for seed, method in itertools.product(range(seeds), methods):
            row = rows.setdefault(method, {"method": method, "library": "", "runs": []})
            if any(run["seed"] == seed for run in row["runs"]):
                continue
            policy, trained = _train(method, seed, seconds, config.discount, task, file)
            played = play(policy, config, task, observe)
            scored = scores(played, task, evaluation.score == "success")
            run = {"seed": seed, **trained, **scored}
            row["library"] = run.pop("library")
            row["runs"].append(run)
            content = json.dumps({**header, "rows": list(rows.values())}, indent=1)
            replace_atomically(out, f"{content}\n".encode())
            shown = {name: run[name] for name in ("return", "first_hit", "success", "updates")}
            print(f"{method}, seed {seed}: {shown}", flush=True)


def _states(
    config: Config, store: Store, encoder: str, task: Task
) -> tuple[Episodes, Observe | None]:
    """The data, and what makes states of the task's observations; with images, both by that version
    of `frames`.
    """
    if not encoder:
        return load_episodes(config.data, store.root), None
    context = StageContext(config, store, Progress(Frames.kind))
    ensure_compressed(context, encoder)
    model = model_of(store.load(Frames.kind, encoder), Frames, torch.device("cpu"))
    return compressed_episodes(context, encoder), task.observer(model.encode)


def _known(out: Path, header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of an earlier call that measured the same; of another one, none, which is said."""
    if not out.is_file():
        return {}
    content = json.loads(out.read_text())
    rows = {row["method"]: row for row in content.pop("rows")}
    with suppress(KeyError, ValueError):  # what an older file does not say has its default value
        content["data"] = told(DataConfig.model_validate(content["data"]))
    wanted = json.loads(json.dumps(header))
    other = [key for key in wanted | content if wanted.get(key) != content.get(key)]
    if other:
        print(f"{out}: its rows have other {', '.join(other)}, so all is measured anew")
        return {}
    return rows


def _train(
    method: str, seed: int, seconds: float, discount: float, task: Task, file: Path
) -> tuple[ExportedPolicy, dict[str, Any]]:
    algorithm, settings = PEERS[method]
    policy = file.with_name("policy.pt")
    request = {
        "algorithm": algorithm,
        "settings": settings | {"gamma": discount},
        "hidden": HIDDEN,
        "seed": seed,
        "cpu_seconds": seconds,
        "action_low": task.spaces.action_low.tolist(),
        "action_high": task.spaces.action_high.tolist(),
        "transitions": str(file),
        "policy": str(policy),
    }
    command = [str(PYTHON), str(TRAIN), json.dumps(request)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return ExportedPolicy(policy), json.loads(done.stdout.splitlines()[-1])
