"""`ldcq bench serving`: what the way through a prior server costs, and how long calls wait."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.random_prior import prior_of, served
from benchmarks.result import BenchmarkResult
from benchmarks.stopwatch import Device, clock_of
from common.rpc.clients import PriorClient
from common.rpc.prior import PriorityName
from common.training.device import resolve_device
from ldcq.config import Config, SamplingConfig
from ldcq.latent_prior import Draw
from ldcq.randomness import block_rows
from services.prior.model import ServedPrior, load_prior

LEARNER = (128, 100)
ACTOR = (1, 64)
LEARNER_IN_FLIGHT = 4
ACTORS = 32
OPEN_LOAD = 0.5
"""Of what the server can do, in the open loop."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: in all, waiting at the server, computing there."""

    total: float
    queue: float
    compute: float

    @property
    def overhead(self) -> float:
        """What is neither: messages, sockets, threads."""
        return self.total - self.queue - self.compute


Call = Callable[[int], Timing]


class Bench:
    """A server in a process of its own, and the same model in this one."""

    def __init__(self, address: str, model: ServedPrior, steps: int) -> None:
        self._model = model
        self._options = SamplingConfig(steps=steps, guidance=1.0, extra_steps=0)
        self._clients: dict[PriorityName, PriorClient] = {
            priority: PriorClient(address, timeout=600, max_in_flight=2 * ACTORS, priority=priority)
            for priority in ("learner", "actor")
        }

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            client.close()

    def in_process(self, shape: tuple[int, int], seed: int) -> Timing:
        """The sampler called directly, its states and latents as arrays."""
        start = time.perf_counter()
        self._model.sampler.sample(self._draw(shape, seed))
        seconds = time.perf_counter() - start
        return Timing(seconds, 0.0, seconds)

    def through_server(self, shape: tuple[int, int], priority: PriorityName) -> Call:
        """A call of this shape."""

        def call(seed: int) -> Timing:
            start = time.perf_counter()
            reply = self._clients[priority].sample(self._draw(shape, seed))
            seconds = time.perf_counter() - start
            return Timing(seconds, reply.queue_seconds, reply.compute_seconds)

        return call

    def _draw(self, shape: tuple[int, int], seed: int) -> Draw:
        random, (count, candidates) = np.random.default_rng(seed), shape
        states = random.standard_normal((count, self._model.description.state_dim), np.float32)
        return Draw(states, candidates, self._options, seed)


def closed_loop(call: Call, callers: int, calls: int) -> tuple[list[Timing], float]:
    """Callers that each send the next call when the last is answered; and the seconds it took."""
    with futures.ThreadPoolExecutor(callers) as executor:
        start = time.perf_counter()
        timings = list(executor.map(call, range(calls)))
        return timings, time.perf_counter() - start


def open_loop(call: Call, rate: float, calls: int) -> tuple[list[Timing], float]:
    """Calls that come by themselves, `rate` a second at random, however long the answers take.

    A call counts from when it was due.
    """
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate, calls))
    start = time.perf_counter()

    def when_due(number: int) -> Timing:
        moment = start + float(due[number])
        time.sleep(max(0.0, moment - time.perf_counter()))
        late = time.perf_counter() - moment
        timing = call(number)
        return Timing(timing.total + late, timing.queue, timing.compute)

    with futures.ThreadPoolExecutor(2 * ACTORS) as executor:
        timings = list(executor.map(when_due, range(calls)))
    return timings, time.perf_counter() - start


@contextmanager
def saturated(call: Call) -> Iterator[list[Timing]]:
    """Learners that never let the server rest, while the block runs; their calls' times."""
    stop, timings = threading.Event(), list[Timing]()

    def keep_calling() -> None:
        while not stop.is_set():
            timings.append(call(len(timings)))

    with futures.ThreadPoolExecutor(LEARNER_IN_FLIGHT) as executor:
        running = [executor.submit(keep_calling) for _ in range(LEARNER_IN_FLIGHT)]
        try:
            while not timings:
                futures.wait(running, timeout=0.05)
            yield timings
        finally:
            stop.set()
        for future in running:
            future.result()


def run(
    store: str | None = None,
    steps: int = 10,
    rounds: int = 5,
    calls: int = 150,
    threads: int = 1,
    device: Device = "cpu",
) -> BenchmarkResult:
    """Measures one server, alone and under load.

    Args:
        store: See `prior_of`.
        steps: Denoising steps.
        rounds: How often the server and the sampler in process take turns.
        calls: Actors' calls of each kind.
        threads: Of the server, and of the sampler in process.
        device: Of both.

    Raises:
        DeviceError: There is no CUDA device.
    """
    clock_of(device)
    torch.set_num_threads(threads)
    with TemporaryDirectory(prefix="ldcq") as name:
        folder = Path(name)
        config, place = prior_of(store, folder, {"threads": threads, "device": device})
        version = place.current("prior")
        if version is None:
            raise ValueError(f"no prior in {store}; expected the store of a run that trained one")
        model = load_prior(place.load("prior", version), torch.device(device))
        address = f"unix:{folder}/prior.sock"
        with (
            served(folder, place.root, config, address),
            closing(Bench(address, model, steps)) as bench,
        ):
            return _measure(bench, config, rounds, calls)


def _measure(bench: Bench, config: Config, rounds: int, calls: int) -> BenchmarkResult:
    learn = bench.through_server(LEARNER, "learner")
    act = bench.through_server(ACTOR, "actor")
    ratios, alone, through = _take_turns(bench, learn, rounds)
    rows = [
        _row("learner in process", "closed, 1", LEARNER, alone, sum(t.total for t in alone)),
        _row("learner", f"closed, {LEARNER_IN_FLIGHT}", LEARNER, *through),
    ]
    rate = OPEN_LOAD * len(through[0]) / through[1]
    found = open_loop(learn, rate, 2 * LEARNER_IN_FLIGHT)
    rows.append(_row("learner", f"open, {rate:.1f}/s", LEARNER, *found))
    lone = [bench.in_process(ACTOR, seed) for seed in range(calls)]
    rows.append(_row("actor in process", "closed, 1", ACTOR, lone, sum(t.total for t in lone)))
    for callers in (1, ACTORS):
        found = closed_loop(act, callers, calls)
        rows.append(_row("actor", f"closed, {callers}", ACTOR, *found))
    whole = [
        bench.in_process((ACTORS * ACTOR[0], ACTOR[1]), seed) for seed in range(max(1, calls // 8))
    ]
    best = len(whole) * ACTORS / sum(timing.total for timing in whole)
    joined = calls / found[1] / best
    rate = OPEN_LOAD * calls / found[1]
    rows.append(_row("actor", f"open, {rate:.0f}/s", ACTOR, *open_loop(act, rate, calls)))
    with saturated(learn) as learners:
        beside = closed_loop(act, 1, calls)
        rows_at_once = min(block_rows(resolve_device(config)), int(np.prod(LEARNER)))
        chunk = statistics.median(t.compute for t in learners) * rows_at_once / np.prod(LEARNER)
        rows.append(_row("actor beside learner", "closed, 1", ACTOR, *beside))
        arriving = open_loop(act, 1 / (2 * float(chunk)), calls)
    rows.append(_row("actor beside learner", f"open, {1 / (2 * chunk):.0f}/s", ACTOR, *arriving))
    return BenchmarkResult(
        "serving",
        {
            "learner_ratio_in_process": statistics.median(ratios),
            "actors_ratio_joined": joined,
            "actor_p95_chunks": _percentile([t.total for t in beside[0]], 95) / float(chunk),
        },
        rows,
        (
            f"A chunk of {rows_at_once} latents beside actors: {1e3 * chunk:.1f} ms."
            " Times are p50, p95, p99; queue, compute and overhead are parts of a call."
            f" Joined: calls of {ACTORS} actors a second, over those that the sampler in process"
            " computes as one draw.",
            f"The server is a process of its own on a Unix socket, with {config.threads} thread(s)"
            " for sampling, like the sampler in process; the client has the rest of the machine.",
        ),
    )


def _take_turns(
    bench: Bench, learn: Call, rounds: int
) -> tuple[list[float], list[Timing], tuple[list[Timing], float]]:
    """A learner's calls in process and through the server, in turns: throughput through the server
    over that in process, of each round; the calls in process; and the calls to the server.
    """
    count = 2 * LEARNER_IN_FLIGHT
    ratios, alone, timings, seconds = [], list[Timing](), list[Timing](), 0.0
    closed_loop(learn, LEARNER_IN_FLIGHT, LEARNER_IN_FLIGHT)
    bench.in_process(LEARNER, 0)
    for _ in range(rounds):
        now = [bench.in_process(LEARNER, seed) for seed in range(count // 2)]
        found, took = closed_loop(learn, LEARNER_IN_FLIGHT, count)
        now += [bench.in_process(LEARNER, seed) for seed in range(count // 2)]
        ratios.append(sum(timing.total for timing in now) / took)
        alone, timings, seconds = alone + now, timings + found, seconds + took
    return ratios, alone, (timings, seconds)


def _row(
    who: str, loop: str, shape: tuple[int, int], timings: Sequence[Timing], seconds: float
) -> dict[str, Any]:
    """One line of the table; times as their 50th, 95th and 99th percentile."""
    row: dict[str, Any] = {
        "mix": f"{who} {shape[0]} x {shape[1]}",
        "loop": loop,
        "calls": len(timings),
        "latents_per_s": len(timings) * shape[0] * shape[1] / seconds,
    }
    for part in ("total", "queue", "compute", "overhead"):
        values = [1e3 * getattr(timing, part) for timing in timings]
        row[f"{part}_ms"] = [round(_percentile(values, percent), 2) for percent in (50, 95, 99)]
    return row


def _percentile(values: Sequence[float], percent: int) -> float:
    return float(np.percentile(values, percent))
