"""`ldcq bench replicas`: what a second prior server adds, in latents and in critic updates."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.random_prior import prior_of, served
from benchmarks.result import BenchmarkResult
from common.rpc.clients import PriorClient
from ldcq.config import Config, override
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import OnlineCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions
from ldcq.latent_prior import Description, Draw

REPLICAS = (1, 2)
WINDOWS = 10_000
FREE_CORE = 0.9
"""Share of a core below which other programs must have taken the rest."""


@dataclass(frozen=True)
class Phase:
    """What one number of replicas did for a while."""

    calls: int  # of `Sample` that were answered
    seconds: float  # on the clock
    own_seconds: float  # of the CPU, of this process
    step_seconds: float  # of its main thread, which makes the gradient steps
    replica_seconds: float  # of all replicas

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds


class Bench:
    """Prior servers that run, single-threaded, and a client of each number of them."""

    def __init__(self, config: Config, addresses: list[str], pids: list[int]) -> None:
        self._config, self._pids = config, pids
        flight = config.critic.calls_in_flight
        self._clients = {
            count: PriorClient(addresses[:count], timeout=600.0, max_in_flight=flight)
            for count in REPLICAS
        }
        self.prior = self._clients[1].describe()
        random = torch.Generator().manual_seed(0)
        self._transitions = _transitions(self.prior, random)
        self._states = self._transitions.next_state[: config.critic.batch_size].numpy()

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            client.close()

    def latents(self, replicas: int, calls: int) -> Phase:
        """The calls of a learner that does nothing else."""
        client, critic = self._clients[replicas], self._config.critic
        with self._measured(calls) as phases:
            # The client's own limit of calls in flight is the learner's.
            draws = [
                Draw(self._states, critic.candidates, critic.sampling, seed)
                for seed in range(calls)
            ]
            futures.wait([client.sample_async(draw) for draw in draws])
        return phases[0]

    def updates(self, replicas: int, updates: int) -> Phase:
        """A critic trained with candidates drawn for every update."""
        config = override(self._config, {"critic.updates": updates})
        client, never = self._clients[replicas], threading.Event()
        replay = PrioritisedReplay(config.critic.replay, len(self._transitions))
        source = OnlineCandidates(config, client, self._transitions, replay, never)
        learner = LDCQ(config, self._transitions, replay, source)
        with self._measured(updates) as phases:
            learner.run()
        return phases[0]

    @contextmanager
    def _measured(self, calls: int) -> Iterator[list[Phase]]:
        """Fills the list with the phase that ends with the block."""
        phases: list[Phase] = []
        before = self._clocks()
        yield phases
        seconds = [now - then for now, then in zip(self._clocks(), before, strict=True)]
        phases.append(Phase(calls, *seconds))

    def _clocks(self) -> tuple[float, float, float, float]:
        replicas = sum(_cpu_seconds(pid) for pid in self._pids)
        return time.perf_counter(), time.process_time(), time.thread_time(), replicas


def run(
    store: str | None = None,
    candidates: int = 100,
    batch: int = 128,
    steps: int = 10,
    seconds: float = 4.0,
    rounds: int = 6,
) -> BenchmarkResult:
    """Measures one and two replicas in turns.

    Args:
        store: Whose prior to serve; None: the paper's network with random weights.
        candidates: n, latents per state.
        batch: States per call, and windows per update.
        steps: Denoising steps.
        seconds: What one measurement with one replica shall take, about.
        rounds: How often everything is measured.
    """
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="ldcq-") as name, ExitStack() as stack:
        folder = Path(name)
        algorithm1 = {"lengths": [], "critic.target": "max_min"}
        critic = {**algorithm1, "critic.candidates": candidates, "critic.batch_size": batch}
        sampling = {"critic.sampling": {"steps": steps, "extra_steps": 0}}
        config, source = prior_of(store, folder, {**critic, **sampling, "threads": 1})
        addresses = [f"unix:{folder}/{replica}" for replica in range(max(REPLICAS))]
        pids = [stack.enter_context(served(folder, source.root, config, at)) for at in addresses]
        bench = Bench(config, addresses, pids)
        stack.callback(bench.close)
        # Both kernels and connections are warm afterwards.
        bench.latents(2, 2)
        # An even number, so that two replicas get the same number of calls.
        calls = max(4, 2 * round(seconds * bench.latents(1, 2).rate / 2))
        latents: dict[int, list[Phase]] = {count: [] for count in REPLICAS}
        updates: dict[int, list[Phase]] = {count: [] for count in REPLICAS}
        for _ in range(rounds):
            for count in REPLICAS:
                latents[count].append(bench.latents(count, calls))
            for count in REPLICAS:
                updates[count].append(bench.updates(count, calls))
    return _result(latents, updates, batch * candidates, config)


def _transitions(prior: Description, random: torch.Generator) -> Transitions:
    def normal(columns: int) -> torch.Tensor:
        return torch.randn(WINDOWS, columns, generator=random)

    latents = normal(prior.latent_dim)
    return Transitions(
        state=normal(prior.state_dim),
        latent_mean=latents,
        latent_std=torch.full_like(latents, 0.3),
        reward=latents.sum(1).tanh(),
        discount=torch.full((WINDOWS,), 0.9),
        next_state=normal(prior.state_dim),
    )


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ratio(phases: dict[int, list[Phase]]) -> float:
    """Median over the rounds: neighbours in time are compared."""
    return statistics.median(b.rate / a.rate for a, b in zip(phases[1], phases[2], strict=True))


def _result(
    latents: dict[int, list[Phase]],
    updates: dict[int, list[Phase]],
    rows_per_call: int,
    config: Config,
) -> BenchmarkResult:
    median = statistics.median
    rows = [
        {
            "replicas": count,
            "latents/s": round(rows_per_call * median(p.rate for p in latents[count])),
            "updates/s": median(p.rate for p in updates[count]),
            # Cores in use: 1 for each replica that never waits.
            "replica_cores": median(p.replica_seconds / p.seconds for p in latents[count]),
            "client_cores": median(p.own_seconds / p.seconds for p in latents[count]),
            "learner_cores": median(p.own_seconds / p.seconds for p in updates[count]),
        }
        for count in REPLICAS
    ]
    # Of processor time: what a core of one's own would take, also on a busy machine.
    sampling = 1e3 * median(p.replica_seconds / p.calls for p in latents[1])
    beside = 1e3 * median(p.replica_seconds / p.calls for p in latents[2])
    gradient = 1e3 * median(p.step_seconds / p.calls for p in updates[1])
    bound = sampling / gradient
    critic, alone = config.critic, rows[0]["replica_cores"]
    busy = [
        f"This machine was busy: a lone replica, which never waits, got {alone:.2f} of a core. "
        "Ratios say little then."
    ]
    return BenchmarkResult(
        "replicas",
        {
            "latents_ratio_2": _ratio(latents),
            "updates_ratio_2": _ratio(updates),
            "sampling_ms": sampling,
            "sampling_ms_beside_another": beside,
            "gradient_ms": gradient,
            "replicas_until_gradient_bound": bound,
        },
        rows,
        [
            *(busy if alone < FREE_CORE else ()),
            f"Single-threaded replicas, {critic.batch_size} x {critic.candidates} latents in "
            f"{critic.sampling.steps} steps per call, {critic.calls_in_flight} calls in flight; "
            "medians of measurements taken in turns.",
            f"An update costs {sampling:.0f} ms of a replica's core ({beside:.0f} ms with another "
            f"replica beside it) and {gradient:.0f} ms of the learner's. With a core for each, "
            f"sampling is the bottleneck below {bound:.1f} replicas and the gradient step above; "
            "on fewer cores than processes they share what there is.",
        ],
    )
