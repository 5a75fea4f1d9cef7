"""`ActorService` over a socket, on real models and real prior services."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.data.task import EnvironmentFactory
from common.models import model_of
from common.rpc.clients import PriorClient
from common.rpc.codec import decode, encode
from common.rpc.server import Server
from common.rpc.settings import IN_PROCESS, ServiceSettings
from common.store import Store
from ldcq.config import override
from ldcq.critic.critic import Critic
from ldcq.latent_prior import MAX_ROWS
from ldcq.learning.learner import Stopped
from ldcq.policies.base import derive_seed
from ldcq.registry import UnknownPriorError
from ldcq.v1 import actor_pb2, actor_pb2_grpc
from ldcq.vae.model import Vae
from services.actor import environments
from services.actor.environments import WORTHWHILE
from services.actor.evaluate import prepare_evaluation
from services.actor.merging import merged
from services.actor.methods import ServedMethods
from services.actor.plans import sealed
from services.actor.priors import Priors
from services.actor.server import FULL_NAME, add_actor
from tests.draws import draw
from tests.following import wait_loaded
from tests.services.actor.conftest import Pipeline, Replica

Stub = actor_pb2_grpc.ActorServiceStub


class Actor:
    """A server with `ActorService`, and a channel to it."""

    def __init__(self, pipeline: Pipeline, store: Store, targets: dict[str, str]) -> None:
        self.server = Server(linger=0, grace=0.5)
        self.priors = Priors(pipeline.config, targets, pipeline.store, version_patience=0.0)
        settings = ServiceSettings(pipeline.config, store, prior_targets=targets)
        self.methods: ServedMethods = add_actor(self.server, settings, self.priors)
        self.address = self.server.start()
        self.channel = grpc.insecure_channel(self.address)
        self.stub: Stub = Stub(self.channel)
        self.methods.start()

    def wait_until_serving(self) -> None:
        deadline = time.monotonic() + 20
        while self.health() != health_pb2.HealthCheckResponse.SERVING:
            assert time.monotonic() < deadline, "the actor never became ready"
            time.sleep(0.02)

    def health(self) -> int:
        health = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service=FULL_NAME)
        status: int = health.Check(request).status
        return status

    def stop(self) -> None:
        self.channel.close()
        self.server.drain()
        self.methods.stop()
        self.priors.close()


@pytest.fixture(scope="module")
def actor(pipeline: Pipeline) -> Iterator[Actor]:
    started = Actor(pipeline, pipeline.store, pipeline.targets)
    started.wait_until_serving()
    yield started
    started.stop()


def _states(count: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, (count, 4)).astype(np.float32)


def _act(actor: Actor, states: np.ndarray, **fields: Any) -> tuple[np.ndarray, bytes]:
    request = actor_pb2.ActorServiceActRequest(states=encode(states), **fields)
    reply = actor.stub.Act(request)
    return decode(reply.actions, field="actions", shape=(len(states), 2)), reply.plan_token


def _plan(token: bytes) -> tuple[np.ndarray, list[int], int]:
    message = actor_pb2.PlanToken.FromString(token)
    latents = decode(message.latents, field="latents", shape=(None, None))
    left = decode(message.steps_left, field="steps_left", shape=(None,), dtype=np.int32)
    return latents, left.tolist(), message.plans


def test_describe(actor: Actor, pipeline: Pipeline) -> None:
    reply = actor.stub.Describe(actor_pb2.ActorServiceDescribeRequest())
    assert list(reply.methods) == ["ldcq", "bcq_h", "prior"]
    assert reply.vae_version == pipeline.store.current("vae")
    assert (reply.state_dim, reply.action_dim) == (4, 2)
    assert (reply.horizon, reply.execute_steps) == (8, 4)
    assert actor.health() == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("method", ["ldcq", "bcq_h"])
def test_ldcq_takes_the_best_candidate_and_decodes_the_current_state(
    actor: Actor, pipeline: Pipeline, method: str
) -> None:
    variant = {"ldcq": "main", "bcq_h": "bcq_h"}[method]
    states = _states()
    actions, token = _act(actor, states, method=method, seed=5)
    latents, left, plans = _plan(token)

    store = pipeline.store
    critic_artifact = store.load("critic", store.current("critic", variant) or "")
    critic = model_of(critic_artifact, Critic)
    vae = model_of(store.load("vae", store.current("vae") or ""), Vae)
    with PriorClient(pipeline.targets[variant]) as client:
        seed = derive_seed(derive_seed(5, 0), 0)
        drawn = client.sample(draw(states, 6, seed=seed)).latents
    values = critic.score(torch.tensor(states), torch.tensor(drawn)).detach().numpy()
    assert (np.ptp(values, axis=1) > 0).all()
    expected = np.stack([drawn[i, max(range(6), key=lambda k: values[i, k])] for i in range(3)])
    np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-6)
    assert (left, plans) == ([3, 3, 3], 1)

    np.testing.assert_allclose(
        actions, vae.act(torch.tensor(states), torch.tensor(latents)).numpy(), rtol=1e-5, atol=1e-6
    )
    moved = _states(seed=1)
    actions, token = _act(actor, moved, method=method, seed=5, plan_token=token)
    np.testing.assert_array_equal(_plan(token)[0], latents)
    np.testing.assert_allclose(
        actions, vae.act(torch.tensor(moved), torch.tensor(latents)).numpy(), rtol=1e-5, atol=1e-6
    )


def test_prior_takes_the_one_sample_as_it_comes(actor: Actor, pipeline: Pipeline) -> None:
    states = _states()
    latents, _, _ = _plan(_act(actor, states, method="prior", seed=5)[1])
    with PriorClient(pipeline.targets["main"]) as client:
        seed = derive_seed(derive_seed(5, 0), 0)
        drawn = client.sample(draw(states, 1, seed=seed)).latents
    np.testing.assert_allclose(latents, drawn[:, 0], rtol=1e-5, atol=1e-6)


def test_it_plans_anew_exactly_every_execute_steps(actor: Actor) -> None:
    states, token = _states(), None
    seen = []
    for _ in range(9):
        fields: dict[str, Any] = {} if token is None else {"plan_token": token}
        _, token = _act(actor, states, seed=1, **fields)
        seen.append(_plan(token))
    assert [plans for _, _, plans in seen] == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert [left[0] for _, left, _ in seen] == [3, 2, 1, 0, 3, 2, 1, 0, 3]
    for before, after in pairwise(seen):
        assert np.array_equal(before[0], after[0]) == (before[2] == after[2])


def test_restart_drops_the_plan_of_that_environment_only(actor: Actor) -> None:
    states = _states()
    _, token = _act(actor, states, seed=1)
    before, _, _ = _plan(token)
    restart = encode(np.array([False, True, False]))
    _, token = _act(actor, states, seed=1, plan_token=token, restart=restart)
    after, left, _ = _plan(token)
    assert left == [2, 3, 2]
    assert (before == after).all(axis=1).tolist() == [True, False, True]


def test_the_seed_fixes_the_reply(actor: Actor) -> None:
    first, second, other = (_act(actor, _states(), seed=s)[1] for s in (3, 3, 4))
    assert first == second != other


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"states": encode(np.zeros((2, 5), np.float32))}, r"states: got shape \(2, 5\)"),
        ({"states": encode(np.zeros((0, 4), np.float32))}, "at least one environment"),
        ({"states": encode(np.full((1, 4), np.nan, np.float32))}, "states: got nan"),
        (
            {"states": encode(np.array([[0] * 4, [1e20] * 4], np.float32))},
            "states: got a row 1 whose latents or their values are not finite",
        ),
        ({"method": "dqn"}, r"method: got 'dqn'; expected one of ldcq, bcq_h, prior"),
        ({"method": "behaviour"}, "method: got 'behaviour'"),
        ({"plan_token": b"\xff\xff"}, "plan_token: got 2 bytes"),
        ({"restart": encode(np.zeros(3, np.bool_))}, r"restart: got shape \(3,\)"),
    ],
)
def test_bad_requests_name_the_field(actor: Actor, fields: dict[str, Any], message: str) -> None:
    given = {"states": encode(_states(2)), **fields}
    with pytest.raises(grpc.RpcError, match=message) as caught:
        actor.stub.Act(actor_pb2.ActorServiceActRequest(**given))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_token_of_other_models_is_refused(actor: Actor) -> None:
    _, token = _act(actor, _states(), seed=1)
    message = actor_pb2.PlanToken.FromString(token)
    message.model_versions = "vae=old prior=old critic=old"
    message.ClearField("checksum")
    with pytest.raises(grpc.RpcError, match="start a new plan") as caught:
        _act(actor, _states(), plan_token=sealed(message.SerializeToString()))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_evaluate_streams_every_episode_and_ends_with_rows(
    actor: Actor, pipeline: Pipeline
) -> None:
    request = actor_pb2.ActorServiceEvaluateRequest(methods=["prior", "behaviour"], episodes=2)
    before = pipeline.store.versions("evaluation")
    replies = list(actor.stub.Evaluate(request))
    total = replies[-1].episodes_total
    assert [reply.episodes_done for reply in replies] == list(range(1, total + 1))
    played = [reply.method for reply in replies]
    assert (played.count("prior"), played.count("behaviour")) == (2, total - 2)
    assert not any(reply.rows for reply in replies[:-1])
    rows = {row.method: row for row in replies[-1].rows}
    assert list(rows) == ["prior", "behaviour"]
    assert rows["prior"].episodes == 2
    assert rows["prior"].HasField("first_hit")
    assert pipeline.store.versions("evaluation") == before, "callers do not write into the store"


def test_methods_played_side_by_side_score_as_each_alone(actor: Actor) -> None:
    def played(*methods: str) -> dict[str, actor_pb2.ScoreRow]:
        request = actor_pb2.ActorServiceEvaluateRequest(methods=methods, episodes=3)
        *_, last = actor.stub.Evaluate(request)
        return {row.method: row for row in last.rows}

    assert played("ldcq", "prior") == played("ldcq") | played("prior")


def test_what_samples_most_begins_first_and_rows_stay_in_order(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def recorded(sources: Any, at_once: int) -> Any:
        begun.extend(sources)
        return merged(sources, at_once)

    monkeypatch.setattr("services.actor.evaluate.merged", recorded)
    methods = ["prior", "ldcq", "bcq_h"]
    request = actor_pb2.ActorServiceEvaluateRequest(methods=methods, episodes=1)
    *_, last = actor.stub.Evaluate(request)
    assert begun == ["ldcq", "bcq_h", "prior"]
    assert [row.method for row in last.rows] == methods


def test_describe_names_the_bounds_and_more_is_refused(actor: Actor) -> None:
    found = actor.stub.Describe(actor_pb2.ActorServiceDescribeRequest())
    assert (found.max_rows, found.max_episodes) == (MAX_ROWS, 1000)
    many = MAX_ROWS // 6 + 1
    act = actor_pb2.ActorServiceActRequest(states=encode(_states(many)), method="ldcq")
    evaluate = actor_pb2.ActorServiceEvaluateRequest(methods=["prior"], episodes=100_000)
    for call, message in (
        (lambda: actor.stub.Act(act), f"states: got {many} environments x 6 candidates; expected "),
        (
            lambda: list(actor.stub.Evaluate(evaluate)),
            "episodes: got 100000; expected at most 1000",
        ),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(caught.value.details()).startswith(message)


def test_no_environment_is_made_for_a_caller_who_has_left(
    actor: Actor, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(*_: object) -> None:
        raise Stopped

    config = override(pipeline.config, {"evaluation.methods": {"prior": {"policy": "prior"}}})
    policies = {"prior": actor.methods.policy("prior")}
    for needed in (WORTHWHILE, -1.0):  # in this process, and in others
        monkeypatch.setattr(environments, "WORTHWHILE", needed)
        evaluation = prepare_evaluation(config, pipeline.store, policies, left)
        made: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(EnvironmentFactory, "__call__", made.append)
            patch.setattr(SpawnProcess, "start", made.append)
            with pytest.raises(Stopped):
                list(evaluation.play())
        assert made == []


def test_an_evaluation_in_processes_is_that_of_one_process(
    actor: Actor, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(
        pipeline.config,
        {
            "evaluation.methods": {"prior": {"policy": "prior"}, "bc": {"policy": "ldcq"}},
            "evaluation.episodes": 9,
            "evaluation.environments": 8,
        },
    )
    policies = {"prior": actor.methods.policy("prior"), "bc": actor.methods.policy("ldcq")}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    played = []
    for needed in (WORTHWHILE, -1.0):
        monkeypatch.setattr(environments, "WORTHWHILE", needed)
        evaluation = prepare_evaluation(config, pipeline.store, policies)
        processes = set()
        for _ in evaluation.play():
            processes |= {process.pid for process in multiprocessing.active_children()}
        assert multiprocessing.active_children() == []
        played.append((evaluation, processes))
    (alone, none), (together, some) = played
    assert (none, len(some)) == (set(), 4), "of each method that plays, two"
    assert together.rows() == alone.rows()
    for method, episodes in alone.episodes.items():
        for episode, expected in zip(together.episodes[method], episodes, strict=True):
            np.testing.assert_array_equal(episode.rewards, expected.rewards)
            np.testing.assert_array_equal(episode.positions, expected.positions)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ["dqn"]}, "methods: got 'dqn'"),
        ({"episodes": -1}, "episodes: got -1"),
    ],
)
def test_bad_evaluations_are_refused(actor: Actor, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(grpc.RpcError, match=message) as caught:
        list(actor.stub.Evaluate(actor_pb2.ActorServiceEvaluateRequest(**fields)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_before_there_are_models_it_says_what_is_missing(pipeline: Pipeline, tmp_path: Any) -> None:
    actor = Actor(pipeline, Store(tmp_path / "empty"), pipeline.targets)
    try:
        assert actor.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError, match="no critic of main yet; made by") as caught:
            actor.stub.Describe(actor_pb2.ActorServiceDescribeRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        actor.stop()


def test_a_prior_with_another_model_is_refused(pipeline: Pipeline) -> None:
    crossed = {"main": pipeline.targets["bcq_h"], "bcq_h": pipeline.targets["main"]}
    actor = Actor(pipeline, pipeline.store, crossed)
    try:
        actor.wait_until_serving()
        with pytest.raises(grpc.RpcError, match="does not serve version") as caught:
            _act(actor, _states())
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    finally:
        actor.stop()


def test_an_actor_that_draws_by_itself_answers_the_same(
    actor: Actor, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Actor(pipeline, pipeline.store, dict.fromkeys(pipeline.targets, IN_PROCESS))
    try:
        alone.wait_until_serving()
        here, served = (_act(each, _states(), seed=3)[0] for each in (alone, actor))
        np.testing.assert_array_equal(here, served)

        def unknown(*_: object) -> None:
            raise UnknownPriorError("prior.implementation is 'gaussian', expected one of ...")

        monkeypatch.setattr("services.actor.priors.sampler_of", unknown)
        with pytest.raises(grpc.RpcError, match=r"bcq_h: prior\.implementation is") as caught:
            _act(alone, _states(), method="bcq_h")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    finally:
        alone.stop()


def test_no_call_fails_while_a_prior_is_swapped(pipeline: Pipeline, tmp_path: Path) -> None:
    store = Store(shutil.copytree(pipeline.store.root, tmp_path / "store"))
    replica = Replica(pipeline.config, store)  # looks for another version 20 times a second
    actor = Actor(pipeline, store, {"main": replica.address})  # once a second
    try:
        actor.wait_until_serving()
        first = store.load("prior", store.current("prior") or "")
        for number in range(3):
            _, token = _act(actor, _states(), method="prior")
            moved = {name: tensor + np.float32(number) for name, tensor in first.tensors.items()}
            version = store.publish(first.meta, moved, "")
            wait_loaded(replica.process.follower, 20, version)
            _, token = _act(actor, _states(), method="prior")
            assert version in actor_pb2.PlanToken.FromString(token).model_versions
    finally:
        actor.stop()
        replica.stop()


def test_a_variant_without_a_prior_service_says_how_to_name_one(pipeline: Pipeline) -> None:
    actor = Actor(pipeline, pipeline.store, {"main": pipeline.targets["main"]})
    try:
        actor.wait_until_serving()
        with pytest.raises(grpc.RpcError, match="add --prior bcq_h=HOST:PORT"):
            _act(actor, _states(), method="bcq_h")
    finally:
        actor.stop()


def test_an_actor_without_its_priors_answers_what_it_can(pipeline: Pipeline) -> None:
    """Calls that wait for a prior leave threads for those that fail, and for other methods."""
    nobody = dict.fromkeys(("main", "bcq_h"), "127.0.0.1:1")
    started = Actor(pipeline, pipeline.store, nobody)
    try:
        started.wait_until_serving()
        request = actor_pb2.ActorServiceActRequest(states=encode(_states()))
        calls = [started.stub.Act.future(request, timeout=60) for _ in range(40)]
        waiting = set(calls)
        deadline = time.monotonic() + 50
        while len(waiting) > 16:
            assert time.monotonic() < deadline
            waiting = {call for call in waiting if not call.done()}
            describe = actor_pb2.ActorServiceDescribeRequest()
            assert started.stub.Describe(describe, timeout=5).state_dim == 4
            assert started.health() == health_pb2.HealthCheckResponse.SERVING
        for call in set(calls) - waiting:
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "prior at 127.0.0.1:1: no answer" in call.details()
        for call in waiting:
            call.cancel()
    finally:
        started.stop()
