"""Real prior services over real sockets: same latents everywhere, clear refusals, hot swap."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc.channel import connect
from common.rpc.clients import PriorClient
from common.rpc.conformance import check_prior
from common.rpc.errors import CallError
from common.rpc.prior import FULL_NAME, sample_request
from common.store import Store
from ldcq.config import SamplingConfig
from ldcq.latent_prior import MAX_ROWS
from ldcq.v1 import prior_pb2_grpc
from tests.draws import draw
from tests.services.prior.calls import code, held, metric, sample, some_states, wait_for_rows
from tests.services.prior.conftest import StartReplica
from tests.services.prior.world import LATENT, STATE, goal_config, publish, small_config


@pytest.mark.parametrize("make_config", [small_config, goal_config], ids=["plain", "goals"])
@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
def test_conforms(
    store: Store, start_replica: StartReplica, implementation: str, make_config: Any
) -> None:
    config = make_config(implementation)
    publish(store, config)
    results = list(check_prior(start_replica(config).ready().address))
    assert len(results) > 10
    assert [result for result in results if not result.passed] == []


def test_describes_itself(store: Store, start_replica: StartReplica) -> None:
    version = publish(store, small_config())
    client = PriorClient(start_replica().ready().address)
    found = client.describe()
    assert (found.implementation, found.model_version, found.vae_version) == (
        "diffusion",
        version,
        "v1",
    )
    assert (found.state_dim, found.latent_dim, found.goal_dim) == (STATE, LATENT, 0)
    assert (found.training_steps, found.max_rows) == (20, MAX_ROWS)
    assert found.solvers == ("ddpm", "ddim", "dpmpp_2m")
    assert found.defaults.steps == 5
    client.close()


def test_goals_and_model_must_agree(store: Store, start_replica: StartReplica) -> None:
    without = publish(store, small_config())
    replica = start_replica().ready()
    goals = some_states(2)[:, :2]
    call = sample(replica, goals=goals)
    assert code(call) is grpc.StatusCode.FAILED_PRECONDITION
    assert "goals: got some; expected none" in call.details()
    with held(replica):
        # Accepted while the model has no goals, computed when its successor has: a call is answered
        # by the model that it began with.
        overtaken = sample(replica)
        wait_for_rows(7)
        replica.ready(publish(store, goal_config()))
    assert overtaken.result().model_version == without
    late = sample(replica)
    assert code(late) is grpc.StatusCode.FAILED_PRECONDITION
    assert r"goals: got none; expected shape (N, 2)" in late.details()
    assert code(sample(replica, goals=goals[:1])) is grpc.StatusCode.INVALID_ARGUMENT
    assert code(sample(replica, goals=goals * np.nan)) is grpc.StatusCode.INVALID_ARGUMENT
    with PriorClient(replica.address) as client:
        assert client.describe().goal_dim == 2
        guided = {
            nulled: client.sample(
                draw(
                    some_states(2),
                    3,
                    seed=1,
                    goals=goals,
                    options=SamplingConfig.model_validate({"guidance": 2.0, "nulled": nulled}),
                )
            ).latents
            for nulled in ("goal", "state", "both", None)
        }
    assert np.array_equal(guided["goal"], guided[None])
    assert not np.array_equal(guided["goal"], guided["state"])
    assert not np.array_equal(guided["goal"], guided["both"])


def test_a_seed_fixes_latents_alone_beside_others_and_elsewhere(
    store: Store, start_replica: StartReplica
) -> None:
    publish(store, small_config())
    here, there = start_replica().ready(), start_replica().ready()
    clients = [PriorClient(replica.address) for replica in (here, there)]

    def drawn(client: PriorClient, seed: int) -> np.ndarray:
        return client.sample(draw(some_states(5), 700, seed=seed)).latents

    alone = drawn(clients[0], 7)
    assert alone.shape == (5, 700, LATENT)
    assert np.array_equal(alone, drawn(clients[1], 7))
    with futures.ThreadPoolExecutor(8) as executor:
        beside = list(executor.map(lambda seed: drawn(clients[0], seed), [1, 7, 2, 7, 3, 7, 4, 5]))
    assert all(np.array_equal(alone, beside[index]) for index in (1, 3, 5))
    assert not np.array_equal(alone, beside[0])
    for client in clients:
        client.close()


def test_without_a_model_it_is_unavailable_and_then_serves(
    store: Store, start_replica: StartReplica
) -> None:
    replica = start_replica()
    health = health_pb2_grpc.HealthStub(connect(replica.address, health_service=None))
    request = health_pb2.HealthCheckRequest(service=FULL_NAME)
    assert health.Check(request).status == health_pb2.HealthCheckResponse.NOT_SERVING
    call = sample(replica)
    assert code(call) is grpc.StatusCode.UNAVAILABLE
    assert "ldcq train prior" in call.details()
    version = publish(store, small_config())
    replica.ready(version)
    for _ in range(100):
        if health.Check(request).status == health_pb2.HealthCheckResponse.SERVING:
            break
        time.sleep(0.05)
    assert sample(replica).result().model_version == version


def test_swaps_models_between_calls_and_checks_the_version_expected(
    store: Store, start_replica: StartReplica
) -> None:
    first = publish(store, small_config(), seed=1)
    replica = start_replica().ready(first)
    swaps = metric("ldcq_prior_swaps_total")
    before = sample(replica, expected_version=first).result()
    second = publish(store, small_config("gaussian"), seed=2)
    replica.ready(second)
    after = sample(replica).result()
    assert (before.model_version, after.model_version) == (first, second)
    assert before.latents.data != after.latents.data
    late = sample(replica, expected_version=first)
    assert code(late) is grpc.StatusCode.FAILED_PRECONDITION
    assert first in late.details()
    assert second in late.details()
    assert metric("ldcq_prior_swaps_total") == swaps + 1
    assert metric("ldcq_prior_model_info", version=second) == 1


def test_swaps_under_load_never_mix_versions(store: Store, start_replica: StartReplica) -> None:
    """A pinned call gets its version's latents or FAILED_PRECONDITION; the others any version's."""
    versions = [publish(store, small_config(), seed=1)]
    replica = start_replica().ready(versions[0])
    expected = {versions[0]: sample(replica).result().latents.data}
    stop = threading.Event()

    def call_on(pinned: bool) -> list[tuple[str, bytes]]:
        seen = []
        while not stop.is_set():
            call = sample(replica, expected_version=versions[0] if pinned else None)
            try:
                reply = call.result()
            except grpc.RpcError:
                assert pinned
                assert call.code() is grpc.StatusCode.FAILED_PRECONDITION
                seen.append(("refused", b""))
            else:
                seen.append((reply.model_version, reply.latents.data))
        return seen

    with futures.ThreadPoolExecutor(4) as executor:
        callers = [executor.submit(call_on, pinned) for pinned in (False, True, False, True)]
        versions.append(publish(store, small_config(), seed=2))
        replica.ready(versions[1])
        expected[versions[1]] = sample(replica).result().latents.data
        time.sleep(0.1)
        stop.set()
        seen = [caller.result() for caller in callers]
    assert expected[versions[0]] != expected[versions[1]]
    for replies in seen:
        assert all(expected[version] == data for version, data in replies if version != "refused")
    assert all("refused" in {version for version, _ in seen[index]} for index in (1, 3))
    assert all(versions[1] in {version for version, _ in seen[index]} for index in (0, 2))


def test_more_latents_than_one_call_may_have_are_refused_at_once(
    store: Store, start_replica: StartReplica
) -> None:
    publish(store, small_config())
    replica = start_replica().ready()
    for options, given in (
        ({"candidates": MAX_ROWS}, "candidates: got 2 states x 262144 candidates"),
        ({"states": np.zeros((MAX_ROWS + 1, STATE))}, "states: got shape (262145, 3), 262145 rows"),
    ):
        call = sample(replica, **options)
        assert code(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call.details().startswith(f"{given}; expected at most 262144")
    started = time.monotonic()
    with PriorClient(replica.address) as client, pytest.raises(CallError, match="in one call"):
        client.sample(draw(some_states(2), MAX_ROWS))
    assert time.monotonic() - started < 10, "what never passes is not tried again"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"states": np.zeros((0, STATE))}, "states: got shape"),
        ({"options": SamplingConfig.model_construct(steps=-1)}, "options.steps: got -1"),
        ({"options": SamplingConfig.model_construct(temperature=-1.0)}, "options.temperature"),
    ],
    ids=["no states", "steps", "temperature"],
)
def test_bad_fields_are_named(
    store: Store, start_replica: StartReplica, options: dict[str, Any], field: str
) -> None:
    publish(store, small_config())
    call = sample(start_replica().ready(), **options)
    assert code(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert field in call.details()


def test_unknown_priority_is_refused(store: Store, start_replica: StartReplica) -> None:
    publish(store, small_config())
    request = sample_request(draw(some_states(1), 1))
    request.priority = 17  # type: ignore[assignment]
    channel = grpc.insecure_channel(start_replica().ready().address)
    with pytest.raises(grpc.RpcError, match="priority: got 17"):
        prior_pb2_grpc.PriorServiceStub(channel).Sample(request)


def test_times_are_measured(store: Store, start_replica: StartReplica) -> None:
    publish(store, small_config())
    name = "ldcq_prior_sample_seconds_count"
    labels = [{"stage": part, "priority": "actor"} for part in ("queue", "compute", "total")]
    before = [metric(name, **label) for label in labels]
    steps = metric("ldcq_prior_step_seconds_count")
    sample(start_replica().ready(), priority="actor").result()
    assert [metric(name, **label) for label in labels] == [count + 1 for count in before]
    assert metric("ldcq_prior_step_seconds_count") > steps
