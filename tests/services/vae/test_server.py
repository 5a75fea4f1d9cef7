"""`VaeService` over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from common.models import parts_of
from common.rpc.codec import decode, encode
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Store
from ldcq.config import Config
from ldcq.data.windows import Windows
from ldcq.latent_prior import MAX_ROWS
from ldcq.v1 import vae_pb2, vae_pb2_grpc
from ldcq.vae.low_level import policy_dimensions
from ldcq.vae.model import Vae
from services.vae import server as module
from services.vae.server import FULL_NAME, add_vae
from tests.following import wait_loaded
from tests.ldcq.vae.synthetic import HORIZON


class Served:
    """A server, a client of it, and the model that it serves."""

    def __init__(self, config: Config, windows: Windows, folder: Path) -> None:
        self.windows, self.store = windows, Store(folder)
        torch.manual_seed(0)
        self.vae = Vae(policy_dimensions(windows, config.vae.latent_dim), config.vae).eval()
        self.vae.fit_to(windows)
        self.server = Server("127.0.0.1:0", linger=0.0)
        self.follower = add_vae(self.server, ServiceSettings(config, self.store))
        self.channel = grpc.insecure_channel(self.server.start())
        self.stub = vae_pb2_grpc.VaeServiceStub(self.channel)
        self.version = ""

    def publish(self) -> None:
        self.version = self.store.publish(*parts_of(self.vae), "")
        self.follower.start()
        wait_loaded(self.follower, 20)

    def healthy(self) -> bool:
        stub = health_pb2_grpc.HealthStub(self.channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=FULL_NAME))
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        self.follower.stop()
        self.channel.close()
        self.server.drain(0)


@pytest.fixture
def served(config: Config, windows: Windows, tmp_path: Path) -> Iterator[Served]:
    it = Served(config, windows, tmp_path)
    yield it
    it.close()


def refusal(call: object, request: object) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)  # type: ignore[operator]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def encode_request(
    states: NDArray[np.generic], actions: NDArray[np.generic]
) -> vae_pb2.VaeServiceEncodeRequest:
    return vae_pb2.VaeServiceEncodeRequest(states=encode(states), actions=encode(actions))


def test_unavailable_until_a_vae_is_published(served: Served) -> None:
    assert not served.healthy()
    with pytest.raises(grpc.RpcError, match="no VAE has been published yet") as caught:
        served.stub.Describe(vae_pb2.VaeServiceDescribeRequest())
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    served.publish()
    assert served.healthy()
    reply = served.stub.Describe(vae_pb2.VaeServiceDescribeRequest())
    spaces = served.windows.episodes.spaces
    assert reply == vae_pb2.VaeServiceDescribeResponse(
        model_version=served.version,
        horizon=HORIZON,
        state_dim=2,
        action_dim=spaces.action_dim,
        latent_dim=4,
        discrete_actions=spaces.discrete_actions,
        max_rows=MAX_ROWS,
    )


def test_encode_answers_what_the_model_does(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 4)
    served.publish()
    rows = np.arange(10)
    states, actions = served.windows.states(rows), served.windows.actions(rows)
    reply = served.stub.Encode(encode_request(states, actions))
    with torch.no_grad():
        expected = served.vae.encode(torch.from_numpy(states), torch.from_numpy(actions))
    mean = decode(reply.mean, field="mean", shape=(10, 4))
    np.testing.assert_allclose(mean, expected.mean, atol=1e-5)
    std = decode(reply.std, field="std", shape=(10, 4))
    np.testing.assert_allclose(std, expected.std, atol=1e-5)
    assert reply.model_version == served.version


def test_decode_answers_the_mode_or_a_sample_by_seed(served: Served) -> None:
    served.publish()
    spaces = served.windows.episodes.spaces
    states = served.windows.first_states(np.arange(50))
    latents = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    dtype = np.int64 if spaces.discrete_actions else np.float32

    def decoded(seed: int | None = None) -> NDArray[np.float32] | NDArray[np.int64]:
        request = vae_pb2.VaeServiceDecodeRequest(
            states=encode(states), latents=encode(latents), seed=seed
        )
        actions = served.stub.Decode(request).actions
        return decode(actions, field="actions", shape=(50, spaces.action_dim), dtype=dtype)

    with torch.no_grad():
        standardised = served.vae.state_normaliser(torch.from_numpy(states))
        mode = served.vae.decoder.act(standardised, torch.from_numpy(latents), None)
    np.testing.assert_allclose(decoded(), mode, atol=1e-6)
    sampled = decoded(seed=2**64 - 1)
    np.testing.assert_array_equal(sampled, decoded(seed=2**64 - 1))
    assert (sampled != decoded(seed=2)).any()
    assert (sampled >= spaces.action_low).all()
    assert (sampled <= spaces.action_high).all()


def test_requests_that_do_not_fit_name_the_field(served: Served) -> None:
    served.publish()
    rows = np.arange(3)
    states, actions = served.windows.states(rows), served.windows.actions(rows)
    call = served.stub.Encode
    short = encode_request(states[:, :-1], actions[:, :-1])
    assert refusal(call, short).startswith("states: got shape (3, 4, 2); expected")
    assert refusal(call, encode_request(states, actions[:2])).startswith("actions: got shape")
    assert refusal(call, encode_request(states[..., :1], actions)).startswith("states: got shape")
    assert "at least one row" in refusal(call, encode_request(states[:0], actions[:0]))
    states[1, 2, 0] = np.nan
    assert refusal(call, encode_request(states, actions)).startswith("states: got nan at (1, 2, 0)")
    latents = encode(np.zeros((3, 5), np.float32))
    wrong = vae_pb2.VaeServiceDecodeRequest(
        states=encode(np.zeros((3, 2), np.float32)), latents=latents
    )
    assert refusal(served.stub.Decode, wrong).startswith("latents: got shape (3, 5)")


def test_more_rows_than_one_call_may_have_are_refused(served: Served) -> None:
    served.publish()
    windows = MAX_ROWS // HORIZON + 1
    states, actions = np.zeros((windows, HORIZON, 2), np.float32), np.zeros((1, 1, 1), np.float32)
    many = encode(np.zeros((MAX_ROWS + 1, 2), np.float32))
    calls: list[tuple[Any, Any, str]] = [
        (served.stub.Encode, encode_request(states, actions), f"({windows}, {HORIZON}, 2)"),
        (served.stub.Decode, vae_pb2.VaeServiceDecodeRequest(states=many), f"({MAX_ROWS + 1}, 2)"),
    ]
    for call, request, given in calls:
        with pytest.raises(grpc.RpcError, match=r"expected at most 262144 rows in one") as caught:
            call(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(caught.value.details()).startswith(f"states: got shape {given}")


@pytest.mark.parametrize("windows", ["discrete"], indirect=True)
def test_indices_outside_the_action_space_are_refused(served: Served) -> None:
    served.publish()
    states, actions = served.windows.states(np.arange(2)), served.windows.actions(np.arange(2))
    actions[1, 0, 0] = 3
    message = refusal(served.stub.Encode, encode_request(states, actions))
    assert message == "actions: got 3 at (1, 0, 0); expected indices from 0 to 2"
    as_float = encode_request(states, actions.astype(np.float32))
    assert "element type float32" in refusal(served.stub.Encode, as_float)
