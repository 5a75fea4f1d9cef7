"""The prior's client: what is asked arrives, and replicas that go away cost time, not calls."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest

from common.rpc import options
from common.rpc.clients import PriorClient
from common.rpc.errors import (
    CallError,
    CallInterruptedError,
    ModelVersionError,
    NotReadyError,
    PriorUnavailableError,
    QueueFullError,
)
from common.rpc.retry import Backoff
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Samples
from ldcq.learning.learner import Stopped
from ldcq.v1 import prior_pb2
from tests.common.rpc.conftest import Spawn, Start
from tests.draws import draw
from tests.numpy_prior import VERSION, NumpyPrior, serve

STATES = np.arange(6, dtype=np.float64).reshape(2, 3)


def _until_called(prior: NumpyPrior, times: int) -> None:
    while prior.calls < times:
        time.sleep(0.01)


def test_a_sample_is_what_the_prior_makes_of_states_and_seed(start: Start) -> None:
    with PriorClient(start(NumpyPrior())) as client:
        reply = client.pinned(VERSION).sample(draw(STATES, 4, seed=5))
        noise = np.random.default_rng(5).standard_normal((2, 4, 2))
        expected = (noise + STATES[:, None, :1]).astype(np.float32)
        np.testing.assert_array_equal(reply.latents, expected)
        assert reply.model_version == VERSION
        again = client.sample_async(draw(STATES, 4, seed=5)).result(timeout=10)
        np.testing.assert_array_equal(again.latents, expected)


def test_goals_options_and_priority_arrive(start: Start) -> None:
    class Listening(NumpyPrior):
        def _reply(self, request):  # type: ignore[no-untyped-def]
            priorities.append(request.priority)
            return super()._reply(request)

    priorities: list[int] = []
    address = start(Listening(goals=True))
    with PriorClient(address, priority="actor") as client, PriorClient(address) as learner:
        options = SamplingConfig(solver="ddpm", steps=10)
        goals = np.zeros((2, 2))
        client.sample(draw(STATES, 1, goals=goals, options=options))
        learner.sample(draw(STATES, 1, goals=goals))
        assert priorities == [prior_pb2.PRIORITY_ACTOR, prior_pb2.PRIORITY_LEARNER]
        with pytest.raises(CallError, match="goals: given") as caught:
            client.sample(draw(STATES, 1))
        assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(CallError, match=r"options.steps: got 11; expected 1 to 10"):
            client.sample(draw(STATES, 1, goals=goals, options=SamplingConfig(steps=11)))


def test_options_are_not_sent_to_a_prior_without_denoising_steps(start: Start) -> None:
    with PriorClient(start(NumpyPrior(solvers=()))) as client:
        plain = client.sample(draw(STATES, 4, seed=5))
        optional = client.sample(draw(STATES, 4, seed=5, options=SamplingConfig(steps=11)))
        np.testing.assert_array_equal(optional.latents, plain.latents)


def test_options_follow_a_prior_that_is_swapped_for_one_of_another_kind(start: Start) -> None:
    """From the first draw on: none is answered by the options of the prior before."""
    prior, asked = NumpyPrior(solvers=()), draw(STATES, 4, options=SamplingConfig(steps=11))
    with PriorClient(start(prior)) as client:
        client.sample(asked)
        prior.solvers, prior.version = ("ddpm",), "another"
        with pytest.raises(CallError, match=r"options.steps: got 11"):
            client.sample(asked)
        prior.solvers, prior.version = (), "a third"
        client.sample(asked)


def test_options_are_those_of_the_pinned_version(start: Start) -> None:
    prior, asked = NumpyPrior(solvers=()), draw(STATES, 4, options=SamplingConfig(steps=11))
    with PriorClient(start(prior)) as client:
        client.pinned(VERSION).sample(asked)
        prior.solvers, prior.version = ("ddpm",), "another"
        with pytest.raises(CallError, match=r"options.steps: got 11"):
            client.pinned("another").sample(asked)


def test_replicas_that_never_agree_are_an_error_in_the_end(start: Start) -> None:
    class Fickle(NumpyPrior):
        def Sample(self, request: Any, context: Any) -> Any:  # noqa: N802
            self.version = f"version {self.calls}"
            return super().Sample(request, context)

    target, asked = start(Fickle()), draw(STATES, 4, options=SamplingConfig(steps=1))
    with (
        PriorClient(target, version_patience=0.3) as client,
        pytest.raises(ModelVersionError, match=r"answered with version version \d+, expected ver"),
    ):
        client.sample(asked)


def test_a_description_holds_what_the_prior_says(start: Start) -> None:
    with PriorClient(start(NumpyPrior())) as client:
        prior = client.describe()
    assert (prior.implementation, prior.model_version) == ("numpy", VERSION)
    assert (prior.state_dim, prior.latent_dim, prior.goal_dim) == (3, 2, 0)
    assert prior.solvers == ("ddpm",)
    assert prior.defaults == SamplingConfig(solver="ddpm", guidance=1.5)


def test_a_refused_request_fails_at_once_with_the_servers_words(start: Start) -> None:
    prior = NumpyPrior()
    with (
        PriorClient(start(prior)) as client,
        pytest.raises(CallError, match=r"INVALID_ARGUMENT: states: got shape \(2, 5\)") as caught,
    ):
        client.sample(draw(np.zeros((2, 5)), 4))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert prior.calls == 1


def test_a_deadline_is_kept_per_call(start: Start) -> None:
    with (
        PriorClient(start(NumpyPrior(delay=5.0)), timeout=0.2) as client,
        pytest.raises(CallError, match="DEADLINE_EXCEEDED"),
    ):
        client.sample(draw(STATES, 1))


def test_a_reply_of_another_shape_is_refused(start: Start) -> None:
    class Truncating(NumpyPrior):
        def _reply(self, request):  # type: ignore[no-untyped-def]
            request.candidates -= 1
            return super()._reply(request)

    with (
        PriorClient(start(Truncating())) as client,
        pytest.raises(CallError, match=r"latents: got shape \(2, 3, 2\); expected shape \(2, 4,"),
    ):
        client.sample(draw(STATES, 4))


def test_another_model_version_is_an_error_that_names_both(start: Start) -> None:
    with (
        PriorClient(start(NumpyPrior()), version_patience=0.0) as client,
        pytest.raises(ModelVersionError, match=f"does not serve version other.*{VERSION}"),
    ):
        client.pinned("other").sample(draw(STATES, 1))
    with (
        PriorClient(start(NumpyPrior()), version_patience=0.0) as client,
        pytest.raises(ModelVersionError, match=f"does not serve version other.*{VERSION}"),
    ):
        client.pinned("other").describe()


def test_a_prior_that_ignores_the_expected_version_is_caught_by_its_reply(start: Start) -> None:
    with (
        PriorClient(start(NumpyPrior(fault="reply version"))) as client,
        pytest.raises(ModelVersionError, match=f"version another, expected {VERSION}"),
    ):
        client.pinned(VERSION).sample(draw(STATES, 1))


def test_a_replica_that_follows_a_moment_later_is_waited_for(start: Start) -> None:
    prior = NumpyPrior(version="old")
    with PriorClient(start(prior), version_patience=30.0) as client:
        future = client.pinned("new").sample_async(draw(STATES, 1))
        _until_called(prior, 1)
        prior.version = "new"
        assert future.result(timeout=30).model_version == "new"


def test_a_description_is_of_the_version_expected(start: Start) -> None:
    """Its dimensions and its goals: those of the version before would be another model's."""

    class Following(NumpyPrior):
        def Describe(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
            reply = super().Describe(request, context)
            self.version, self.goals = "new", True
            return reply

    with PriorClient(start(Following(version="old")), version_patience=30.0) as client:
        found = client.pinned("new").describe()
    assert (found.model_version, found.goal_dim) == ("new", 2)


def test_a_full_queue_is_tried_again(start: Start) -> None:
    prior = NumpyPrior(raises=QueueFullError("too many rows"))
    with PriorClient(start(prior)) as client:
        future = client.sample_async(draw(STATES, 1))
        _until_called(prior, 2)
        prior.raises = None
        assert future.result(timeout=30).latents.shape == (2, 1, 2)


def test_nobody_there_is_an_error_after_the_patience_that_says_what_to_do() -> None:
    server, address = serve(NumpyPrior())
    server.drain(0)
    with (
        PriorClient(address, patience=0.3) as client,
        pytest.raises(PriorUnavailableError, match=f"prior at {address}: no answer for 0.3 s"),
    ):
        client.sample(draw(STATES, 1))


def test_calls_without_a_place_to_wait_fail_at_once_and_others_are_answered_later() -> None:
    server, address = serve(NumpyPrior())
    server.drain(0)
    with PriorClient(address, waiting=threading.Semaphore(2)) as client:
        calls = [client.sample_async(draw(STATES, 1)) for _ in range(6)]
        done: set[futures.Future[Samples]] = set()
        while len(done) < 4:
            done |= futures.wait(set(calls) - done, timeout=30, return_when="FIRST_COMPLETED").done
        for call in done:
            with pytest.raises(PriorUnavailableError):
                call.result()
        server, _ = serve(NumpyPrior(), address)
        try:
            for call in set(calls) - done:
                assert call.result(timeout=30).latents.shape == (2, 1, 2)
        finally:
            server.drain(0)


def test_after_one_has_waited_in_vain_calls_fail_at_once_until_one_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, address = serve(NumpyPrior())
    server.drain(0)
    pauses: list[Backoff] = []
    pause = Backoff.pause

    def noted(self: Backoff) -> bool:
        pauses.append(self)
        return pause(self)

    monkeypatch.setattr(Backoff, "pause", noted)
    with PriorClient(address, patience=3.0) as client:
        for waits in (True, False, False):
            pauses.clear()
            with pytest.raises(PriorUnavailableError, match="no answer for"):
                client.sample(draw(STATES, 1))
            assert bool(pauses) == waits
        server, _ = serve(NumpyPrior(), address)
        until = time.monotonic() + 20
        while True:  # the channel connects again
            try:
                client.sample(draw(STATES, 1))
                break
            except PriorUnavailableError:
                assert time.monotonic() < until
        server.drain(0)
        pauses.clear()
        with pytest.raises(PriorUnavailableError, match="no answer for 3 s"):
            client.sample(draw(STATES, 1))
        assert pauses


def test_a_call_waits_for_a_server_that_starts_later() -> None:
    server, address = serve(NumpyPrior())
    server.drain(0)
    with PriorClient(address) as client:
        future = client.sample_async(draw(STATES, 1))
        server, _ = serve(NumpyPrior(), address)
        try:
            assert future.result(timeout=30).latents.shape == (2, 1, 2)
        finally:
            server.drain(0)


def test_no_call_fails_when_a_replica_is_killed(spawn: Spawn) -> None:
    (doomed, first), (_, second) = spawn("--delay", "0.02"), spawn("--delay", "0.02")
    with PriorClient(f"{first},{second}", patience=30.0, max_in_flight=4) as client:
        client.wait_ready(lambda _: None, threading.Event())
        calls = [client.sample_async(draw(STATES, 4, seed=seed)) for seed in range(80)]
        calls[20].result(timeout=30)
        doomed.kill()
        replies = [call.result(timeout=60) for call in calls]
    for seed, reply in enumerate(replies):
        noise = np.random.default_rng(seed).standard_normal((2, 4, 2))
        np.testing.assert_array_equal(
            reply.latents, (noise + STATES[:, None, :1]).astype(np.float32)
        )


def test_no_call_fails_when_the_only_replica_is_killed_and_started_again(spawn: Spawn) -> None:
    doomed, address = spawn("--delay", "0.02")
    with PriorClient(address, patience=60.0, max_in_flight=4) as client:
        calls = [client.sample_async(draw(STATES, 4, seed=seed)) for seed in range(40)]
        calls[5].result(timeout=30)
        doomed.kill()
        doomed.wait()
        spawn("--listen", address)
        assert all(call.result(timeout=60).latents.shape == (2, 4, 2) for call in calls)


def test_a_message_beyond_the_limit_is_not_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(options, "MAX_MESSAGE_BYTES", 1 << 16)
        address = start(NumpyPrior())
    with (
        PriorClient(address) as client,
        pytest.raises(CallError, match="larger than max") as caught,
    ):
        client.sample(draw(np.zeros((10_000, 3)), 1))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_waiting_says_once_what_it_waits_for_and_ends_when_the_version_is_there(
    start: Start,
) -> None:
    prior = NumpyPrior(version="old")
    told: list[str] = []
    with PriorClient(start(prior)) as client:

        def on_wait(message: str) -> None:
            told.append(message)
            prior.version = "new"

        ready = client.wait_ready(on_wait, threading.Event(), expected_version="new", poll=0.01)
    assert ready.model_version == "new"
    assert len(told) == 1
    assert "to serve version new; it serves old" in told[0]


def test_waiting_ends_when_stopped() -> None:
    server, address = serve(NumpyPrior())
    server.drain(0)
    stop = threading.Event()
    told: list[str] = []

    def on_wait(message: str) -> None:
        told.append(message)
        stop.set()

    with PriorClient(address) as client, pytest.raises(Stopped):
        client.wait_ready(on_wait, stop)
    assert told == [
        f"waiting for the prior at {address}; start it with `ldcq serve prior`, "
        "or correct the address"
    ]


def test_closing_ends_calls_under_way_and_calls_that_wait_to_try_again(start: Start) -> None:
    slow, absent = NumpyPrior(delay=2.0), NumpyPrior(raises=NotReadyError("no model yet"))
    for prior in (slow, absent):
        client = PriorClient(start(prior))
        call = client.sample_async(draw(STATES, 1))
        _until_called(prior, 1)
        client.close()
        with pytest.raises(CallInterruptedError):
            call.result(timeout=20)
        with pytest.raises(RuntimeError):
            client.sample_async(draw(STATES, 1))
