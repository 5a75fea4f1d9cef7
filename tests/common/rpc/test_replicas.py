"""Replicas that are started, drained and killed while a client calls: no call fails, all are used.

Every address a replica may ever have is known to the client from the start, as in a local run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from common.rpc.channel import label
from common.rpc.clients import PriorClient
from common.rpc.server import Server
from tests.common.rpc.conftest import Spawn
from tests.draws import draw
from tests.numpy_prior import NumpyPrior, serve

PLACES = 16


class _Caller:
    """Calls without a pause from several threads; the latents of a call depend on its seed."""

    def __init__(self, client: PriorClient, threads: int = 4) -> None:
        self._client = client
        self.done = 0
        self.failures: list[BaseException] = []
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(threads)]

    @contextmanager
    def calling(self) -> Iterator[_Caller]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)
        assert not self.failures

    def _call(self) -> None:
        expected = np.random.default_rng(7).standard_normal((1, 2, 2)).astype(np.float32)
        while not self._stop.is_set() and not self.failures:
            try:
                latents = self._client.sample(draw(np.zeros((1, 3)), 2, seed=7)).latents
                np.testing.assert_array_equal(latents, expected)
            except BaseException as error:
                self.failures.append(error)
            with self._lock:
                self.done += 1


def _until(condition: Callable[[], bool], caller: _Caller) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert not caller.failures
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_replica_is_called_soon_after_it_starts_and_none_fails_while_one_drains(
    tmp_path: Path,
) -> None:
    places = [f"unix:{tmp_path}/{place}" for place in range(PLACES)]
    priors = [NumpyPrior(delay=0.01) for _ in range(3)]
    servers: list[Server] = []

    def start(index: int, place: int) -> None:
        servers.append(serve(priors[index], places[place], linger=0.3)[0])

    start(0, place=3)
    try:
        with PriorClient(places) as client, _Caller(client).calling() as caller:
            _until(lambda: caller.done > 10, caller)
            for index, place in ((1, 0), (2, PLACES - 1)):
                start(index, place)
                _until(lambda index=index: priors[index].calls > 10, caller)  # type: ignore[misc]
            servers.pop(0).drain(10)
            drained, done = priors[0].calls, caller.done
            _until(lambda: caller.done > done + 20, caller)
            assert priors[0].calls == drained
            # The place of one that has drained can be taken again.
            priors[0].calls = 0
            start(0, place=3)
            _until(lambda: priors[0].calls > 10, caller)
    finally:
        for server in servers:
            server.drain(0)


def test_no_call_fails_when_the_only_replica_is_killed_and_another_started(
    spawn: Spawn, tmp_path: Path
) -> None:
    places = [f"unix:{tmp_path}/{place}" for place in range(PLACES)]
    process, _ = spawn("--listen", places[5], "--delay", "0.05")
    with PriorClient(places) as client, _Caller(client).calling() as caller:
        _until(lambda: caller.done > 5, caller)
        process.kill()
        process.wait()
        spawn("--listen", places[6], "--delay", "0.05")
        done = caller.done
        _until(lambda: caller.done > done + 20, caller)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("prior:1", "prior:1"),
        ("a:1,b:2", "a:1,b:2"),
        (["unix:/a", "unix:/b", "unix:/c", "unix:/d"], "unix:/a (or 3 other addresses)"),
    ],
)
def test_a_long_target_is_shortened_for_people(target: str | list[str], shown: str) -> None:
    assert label(target) == shown
