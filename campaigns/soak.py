"""`make soak`: a prior and an actor called for a long time, while priors are swapped and calls are
cancelled: no other call fails, a reply depends on request and version alone, nothing grows.

    python -m campaigns.soak --calls 1000000 --json
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from numpy.typing import NDArray

from campaigns.result import CampaignResult, JsonOption
from campaigns.serving import ServerProcess, StoreOption, small_store
from cli.terminal import ProgressBars
from common.rpc.channel import connect
from common.rpc.codec import decode, encode
from common.rpc.conformance import CheckResult
from common.rpc.retry import status_of
from common.rpc.stage import Progress
from common.store import Store
from ldcq.v1 import actor_pb2, actor_pb2_grpc, prior_pb2, prior_pb2_grpc

TIMEOUT = 60.0
SWAP_CALLS = 2000
"""Calls between two swaps; a tenth of all where that is less."""
CANCEL_SHARE = 0.01
PROBE_SHARE = 0.02
WARM_UP = 0.3
"""Share of the calls after which memory and threads are to stay as they are. Until then twice as
many clients call, so that pools of threads, which grow with the calls at once, have their size."""
LOOK_SECONDS = 0.5
MEMORY_PERCENT, THREADS = 2.0, 1
"""That memory and threads may grow by after that: a pool may by chance miss a thread for long."""
METHODS = ("prior", "bcq_h")
"""Whose actions are asked for: `prior` follows the priors that are swapped, `bcq_h` has a critic
and a prior that stay."""


class Traffic:
    """What all clients together have done; thread-safe.

    Attributes:
        outcomes: Calls by method and how they ended: a status code, `left` where the caller left
            first, `WRONG` where the answer was.
        renewed: Calls of `Act` whose plan was of the models before a swap, sent again without.
        failures: The messages of the first calls that failed.
        versions: The prior versions that have answered.
    """

    def __init__(self, calls: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.renewed = 0
        self.failures: list[str] = []
        self.versions: set[str] = set()
        self._left, self._lock = calls, threading.Lock()
        self._first: dict[tuple[int, str], bytes] = {}

    def take(self) -> bool:
        """Whether one more call is to be made."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def stop(self) -> None:
        """No more calls are to be made."""
        with self._lock:
            self._left = 0

    def renew(self) -> None:
        """A plan was begun anew after a swap."""
        with self._lock:
            self.renewed += 1

    @property
    def done(self) -> int:
        """Calls that have ended."""
        with self._lock:
            return self.outcomes.total()

    def note(self, method: str, outcome: str, message: str = "") -> None:
        """One call has ended."""
        with self._lock:
            self.outcomes[f"{method} {outcome}"] += 1
            if message and len(self.failures) < 10:
                self.failures.append(f"{method} {outcome}: {message}")

    def answered(self, version: str) -> None:
        """A prior of this version has."""
        with self._lock:
            self.versions.add(version)

    def same(self, probe: int, version: str, content: bytes) -> bool:
        """Whether a repeated request got what it got first from this version."""
        with self._lock:
            return self._first.setdefault((probe, version), content) == content


class Client:
    """One caller with a channel and random numbers of its own."""

    def __init__(self, traffic: Traffic, prior: str, actor: str, seed: tuple[int, int]) -> None:
        self._traffic, self._random = traffic, np.random.default_rng(seed)
        self._prior, self._actor = connect(prior), connect(actor)
        self._sample = prior_pb2_grpc.PriorServiceStub(self._prior).Sample
        self._act = actor_pb2_grpc.ActorServiceStub(self._actor).Act
        self._probe = seed[1], self._request(np.random.default_rng(seed[1]))

    def run(self, until: float) -> None:
        """Calls until all calls, or so many of them, have been made."""
        with self._prior, self._actor:
            while self._traffic.done < until and self._traffic.take():
                kind = self._random.random()
                if kind < CANCEL_SHARE:
                    self._cancelled()
                elif kind < CANCEL_SHARE + PROBE_SHARE:
                    self._repeated()
                elif kind < 0.8:
                    self._sampled()
                else:
                    self._episode()

    def _request(self, random: np.random.Generator) -> prior_pb2.PriorServiceSampleRequest:
        return prior_pb2.PriorServiceSampleRequest(
            states=encode(_states(random, int(random.integers(1, 5)))),
            candidates=int(random.integers(1, 17)),
            seed=int(random.integers(2**63)),
            priority=prior_pb2.PRIORITY_LEARNER,
        )

    def _sampled(self) -> None:
        self._call("Sample", lambda: self._checked(self._request(self._random)))

    def _repeated(self) -> None:
        def call() -> None:
            number, request = self._probe
            reply = self._checked(request)
            if not self._traffic.same(number, reply.model_version, reply.latents.data):
                raise ValueError(f"other latents than before from version {reply.model_version}")

        self._call("Sample", call)

    def _checked(
        self, request: prior_pb2.PriorServiceSampleRequest
    ) -> prior_pb2.PriorServiceSampleResponse:
        reply = self._sample(request, timeout=TIMEOUT)
        shape = (request.states.shape[0], request.candidates, None)
        decode(reply.latents, field="latents", shape=shape)
        self._traffic.answered(reply.model_version)
        return reply

    def _cancelled(self) -> None:
        """A call whose caller leaves at some moment, perhaps after the answer."""
        if self._random.random() < 0.5:
            name = "Sample"
            call: Any = self._sample.future(self._request(self._random), timeout=TIMEOUT)
        else:
            name, call = "Act", self._act.future(self._acting(1), timeout=TIMEOUT)
        time.sleep(float(self._random.exponential(0.003)))
        call.cancel()
        code = call.code()
        self._traffic.note(name, "left" if code is grpc.StatusCode.CANCELLED else code.name)

    def _episode(self) -> None:
        """Some steps of some environments, the plan handed on from call to call."""
        environments, token = int(self._random.integers(1, 5)), b""
        method = str(self._random.choice(METHODS))
        for step in range(int(self._random.integers(1, 9))):
            if step and not self._traffic.take():
                return
            request = self._acting(environments, method)
            if token:
                request.plan_token = token
            token = self._call("Act", partial(self._acted, request)) or b""

    def _acting(
        self, environments: int, method: str = METHODS[0]
    ) -> actor_pb2.ActorServiceActRequest:
        states = encode(_states(self._random, environments))
        seed = int(self._random.integers(2**63))
        return actor_pb2.ActorServiceActRequest(method=method, states=states, seed=seed)

    def _acted(self, request: actor_pb2.ActorServiceActRequest) -> bytes:
        try:
            reply = self._act(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            if "leave plan_token out to start a new plan" not in status_of(error)[1]:
                raise
            self._traffic.renew()
            request.ClearField("plan_token")
            reply = self._act(request, timeout=TIMEOUT)
        decode(reply.actions, field="actions", shape=(request.states.shape[0], None))
        return bytes(reply.plan_token)

    def _call(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            found = call()
        except grpc.RpcError as error:
            code, details = status_of(error)
            self._traffic.note(name, code.name, details)
        except Exception as error:
            self._traffic.note(name, "WRONG", str(error))
        else:
            self._traffic.note(name, "OK")
            return found
        return None


class Swaps:
    """Priors to publish: the first one with weights moved a little."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store, self._random, self.count = store, np.random.default_rng(seed), 0
        current = store.current("prior")
        assert current is not None
        self._first = store.load("prior", current)

    def swap(self) -> None:
        """Publishes the next one."""
        moved = {
            name: weights + self._random.normal(0, 1e-3, weights.shape).astype(weights.dtype)
            if "normaliser" not in name
            else weights
            for name, weights in self._first.tensors.items()
        }
        self._store.publish(self._first.meta, moved, "")
        self.count += 1


class Sizes:
    """Memory and threads of servers in the course of a campaign."""

    def __init__(self, servers: list[ServerProcess]) -> None:
        self._servers = servers
        self._seen: list[tuple[float, dict[str, tuple[int, int]]]] = []

    def look(self, share: float) -> None:
        """Notes them after this share of all calls."""
        self._seen.append((share, {server.name: server.size() for server in self._servers}))

    def growth(self) -> dict[str, dict[str, float]]:
        """Of each server, from the first third after the warm-up to the last, by their medians: of
        memory in percent, and of threads in number.
        """
        after = [sizes for share, sizes in self._seen if share >= WARM_UP]
        third = max(1, len(after) // 3)
        growth = {}
        for server in self._servers:
            (memory, threads), (memory_then, threads_then) = (
                (statistics.median(column) for column in zip(*part, strict=True))
                for part in (
                    [sizes[server.name] for sizes in looks]
                    for looks in (after[:third], after[-third:])
                )
            )
            percent = round(100 * (memory_then / memory - 1), 2)
            growth[server.name] = {"memory_percent": percent, "threads": threads_then - threads}
        return growth


def run(
    calls: int, clients: int, seed: int, folder: Path, store: Path | None, bars: ProgressBars
) -> CampaignResult:
    """Serves a store and calls it.

    Args:
        calls: Of `Sample` and `Act` together.
        clients: That call at once; see `WARM_UP`.
        seed: Of what is asked for, and when a caller leaves.
        folder: For the store and the logs.
        store: To copy; None: one is trained.
        bars: Show how far it is.

    Raises:
        CampaignError: A server did not start, or has ended.
    """
    progress, traffic = Progress("soak"), Traffic(calls)
    progress.waiting("training a small store" if store is None else "copying the store")
    bars.update("soak", progress.snapshot())
    root = small_store(folder, store)
    with ExitStack() as stack:
        prior = stack.enter_context(ServerProcess("prior", root, folder))
        variant = ("--variant", "bcq_h")
        other = stack.enter_context(ServerProcess("prior", root, folder, variant, "prior@bcq_h"))
        targets = (f"--prior={prior.address}", f"--prior=bcq_h={other.address}")
        actor = stack.enter_context(ServerProcess("actor", root, folder, targets))
        servers = [prior, other, actor]
        sizes, swaps = Sizes(servers), Swaps(Store(root), seed)
        callers = [
            Client(traffic, prior.address, actor.address, (seed, number))
            for number in range(2 * clients)
        ]
        ends = [calls] * clients + [WARM_UP * calls] * clients
        with ThreadPoolExecutor(len(callers)) as pool:
            calling = [
                pool.submit(caller.run, end) for caller, end in zip(callers, ends, strict=True)
            ]
            try:
                while not all(future.done() for future in calling):
                    done = traffic.done
                    if done >= (swaps.count + 1) * min(SWAP_CALLS, calls // 10):
                        swaps.swap()
                    sizes.look(done / calls)
                    progress.running(min(done, calls), calls, {}, f"{swaps.count} swaps")
                    bars.update("soak", progress.snapshot())
                    time.sleep(LOOK_SECONDS)
                sizes.look(1.0)
            finally:
                traffic.stop()
            for future in calling:
                future.result()
        codes = {server.name: server.stop() for server in servers}
    progress.published("")
    bars.update("soak", progress.snapshot())
    settings = {"calls": calls, "clients": clients, "seed": seed}
    return _result(settings, traffic, swaps.count, sizes.growth(), codes, servers)


def _states(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    return random.normal(0, 0.5, (count, 4)).astype(np.float32)


def _result(
    settings: dict[str, Any],
    traffic: Traffic,
    swaps: int,
    growth: dict[str, dict[str, float]],
    codes: dict[str, int],
    servers: list[ServerProcess],
) -> CampaignResult:
    outcomes = dict(sorted(traffic.outcomes.items()))
    failed = sum(n for name, n in outcomes.items() if name.split()[1] not in ("OK", "left"))
    grown = [(found["memory_percent"], found["threads"]) for found in growth.values()]
    told = [f"{name} {memory:+g} %" for name, (memory, _) in zip(growth, grown, strict=True)]
    counted = [f"{name} {threads:+g}" for name, (_, threads) in zip(growth, grown, strict=True)]
    said = [
        f"{server.name}: {line}"
        for server in servers
        for line in server.log_of_calls().splitlines()
        if "Traceback" in line or " ERROR " in line
    ]
    checks = [
        CheckResult(
            "no call fails", not failed, "; ".join(traffic.failures) or f"{traffic.done} calls"
        ),
        CheckResult(
            "priors that were published meanwhile answer",
            len(traffic.versions) > 1,
            f"{swaps} swaps, {len(traffic.versions)} versions answered",
        ),
        CheckResult(
            f"memory grows by less than {MEMORY_PERCENT:g} % after the warm-up",
            all(memory < MEMORY_PERCENT for memory, _ in grown),
            ", ".join(told),
        ),
        CheckResult(
            f"threads grow by at most {THREADS} after the warm-up",
            all(threads <= THREADS for _, threads in grown),
            ", ".join(counted),
        ),
        CheckResult("nothing goes wrong in a log", not said, "; ".join(said[:5]) or "no error"),
        CheckResult(
            "every server ends in order",
            not any(codes.values()),
            ", ".join(f"{name} {code}" for name, code in codes.items()),
        ),
    ]
    figures = {
        "outcomes": outcomes,
        "renewed": traffic.renewed,
        "swaps": swaps,
        "versions": len(traffic.versions),
        "growth": growth,
    }
    return CampaignResult("soak", settings, figures, checks)


def main(
    calls: Annotated[int, typer.Option(min=10, help="Calls of Sample and Act together.")] = 100_000,
    clients: Annotated[int, typer.Option(min=1, help="That call at once.")] = 8,
    seed: Annotated[int, typer.Option(help="Of what is asked for.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call a prior and an actor for a long time, with swaps and cancelled calls in between."""
    with tempfile.TemporaryDirectory(prefix="ldcq-soak-") as folder, ProgressBars() as bars:
        result = run(calls, clients, seed, Path(folder), store, bars)
    raise typer.Exit(result.show(as_json))


if __name__ == "__main__":
    typer.run(main)
