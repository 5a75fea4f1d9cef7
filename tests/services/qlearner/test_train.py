"""The stage from artifacts to artifact, and its process, killed and resumed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from common.models import model_of
from common.rpc.codec import decode, encode
from common.rpc.server import Server
from common.rpc.settings import IN_PROCESS, ServiceSettings
from common.rpc.stage import Progress
from common.store import Meta, Store, stage_spec
from common.training import read_metrics
from common.training.context import StageContext
from common.training.process import run_stage
from ldcq.config import Config, ConfigError, dump
from ldcq.critic.critic import Critic
from ldcq.data.latents import LatentTable
from ldcq.learning.learner import Stopped
from ldcq.registry import UnknownPriorError
from ldcq.v1 import critic_pb2, critic_pb2_grpc, stage_pb2, stage_pb2_grpc
from services.qlearner.server import add_critic
from services.qlearner.train import run
from tests.following import wait_loaded
from tests.latent_tables import publish_table
from tests.stopping import stop_once_said

MakeConfig = Callable[..., Config]


DATA = {"dataset": "d"}


def publish_parents(store: Store, config: Config, table: LatentTable) -> str:
    """A VAE, its latents and a prior of them; returns the prior's version."""
    text = dump(config)
    vae = store.publish(
        Meta(kind="vae", spec=stage_spec(config, "vae", DATA), parents=DATA),
        *({"w": np.zeros(1)}, text),
    )
    parents = {"vae": vae}
    meta = Meta(kind="latents", spec=stage_spec(config, "latents", parents), parents=parents)
    parents = {"vae": vae, "latents": publish_table(store, meta, table)}
    prior = Meta(kind="prior", spec=stage_spec(config, "prior", parents), parents=parents)
    return store.publish(prior, {"w": np.zeros(1)}, text)


def context(config: Config, store: Store, target: str = "") -> StageContext:
    return StageContext(
        base=config,
        store=store,
        progress=Progress("critic"),
        prior_targets={"main": target} if target else {},
    )


def test_a_prior_with_goals_is_refused_before_anything_is_waited_for(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config().model_dump()
    config["data"]["goal_indices"] = [0]
    config["prior"]["goal_conditioned"] = True
    with pytest.raises(ConfigError, match="goal_conditioned is true, expected false for a critic"):
        run(context(Config.model_validate(config), Store(tmp_path)))


@pytest.mark.parametrize("source", ["online", "cache"])
def test_the_stage_publishes_once(
    make_config: MakeConfig, table: LatentTable, start_prior: Any, tmp_path: Path, source: str
) -> None:
    config = make_config(candidate_source=source, windows=20, reward_scale=0.5)
    store = Store(tmp_path)
    prior = publish_parents(store, config, table)
    replica = start_prior(prior)
    stage = context(config, store, replica.address)
    version = run(stage)

    artifact = store.load("critic", version)
    assert store.current("critic") == version
    assert artifact.meta.parents == {
        "vae": store.current("vae"),
        "latents": store.current("latents"),
        "prior": prior,
    }
    assert model_of(artifact, Critic).config.reward_scale == 0.5
    assert stage.progress.snapshot().state == stage_pb2.STAGE_STATE_PUBLISHED
    metrics = read_metrics(tmp_path / "logs" / "critic" / "metrics.csv")
    assert set(metrics) >= {
        "loss",
        "td_error",
        "q_mean",
        "beta",
        "validation/max_q",
        "validation/off_support",
    }
    assert len(store.versions("candidates")) == (source == "cache")

    replica.kill()
    again = context(config, store)
    assert run(again) == version, "nothing is trained and no prior is asked"
    assert again.progress.snapshot().reused


def test_without_validation_windows_there_is_nothing_to_validate(
    make_config: MakeConfig, table: LatentTable, start_prior: Any, tmp_path: Path
) -> None:
    config, store = make_config(), Store(tmp_path)
    table.validation[:] = False
    target = start_prior(publish_parents(store, config, table)).address
    run(context(config, store, target))
    metrics = read_metrics(tmp_path / "logs" / "critic" / "metrics.csv")
    assert not any(name.startswith("validation/") for name in metrics)


def test_a_missing_address_and_too_large_calls_are_refused(
    make_config: MakeConfig, table: LatentTable, start_prior: Any, tmp_path: Path
) -> None:
    config, store = make_config(candidates=200_000), Store(tmp_path)
    target = start_prior(publish_parents(store, config, table)).address
    with pytest.raises(ConfigError, match=r"variant 'main' is missing .*--prior main=HOST:PORT"):
        run(context(config, store))
    stage = context(config, store, target)
    settings = ServiceSettings(config, store, prior_targets=stage.prior_targets)
    assert not run_stage(run, settings, stage.progress, threading.Event())
    snapshot = stage.progress.snapshot()
    assert snapshot.state == stage_pb2.STAGE_STATE_FAILED
    assert "1600000, expected at most 1000000" in snapshot.message


def test_what_only_a_service_can_draw_is_refused_in_process(
    make_config: MakeConfig, table: LatentTable, tmp_path: Path
) -> None:
    config, store = make_config(), Store(tmp_path)
    publish_parents(store, config, table)  # of no implementation that is installed
    with pytest.raises(UnknownPriorError, match="expected one of diffusion, gaussian"):
        run(context(config, store, IN_PROCESS))


def test_a_prior_of_another_version_is_waited_for_and_named(
    make_config: MakeConfig, table: LatentTable, prior_target: str, tmp_path: Path
) -> None:
    config, store = make_config(), Store(tmp_path)
    prior = publish_parents(store, config, table)
    stage = context(config, store, prior_target)
    stop_once_said(stage.progress, stage.stop, "to serve version")
    with pytest.raises(Stopped):
        run(stage)
    snapshot = stage.progress.snapshot()
    assert snapshot.state == stage_pb2.STAGE_STATE_WAITING
    assert f"to serve version {prior}; it serves p1" in snapshot.message


def test_latents_of_another_vae_are_not_trained_on(
    make_config: MakeConfig, table: LatentTable, tmp_path: Path
) -> None:
    """A VAE of new data is there, latents and prior are still the old one's: wait, do not mix."""
    config, store, data = make_config(), Store(tmp_path), {"dataset": "new"}
    publish_parents(store, config, table)
    new = Meta(kind="vae", spec=stage_spec(config, "vae", data), parents=data)
    store.publish(new, {"w": np.ones(1)}, "")
    stage = context(config, store)
    stop_once_said(stage.progress, stage.stop, "made from another vae")
    with pytest.raises(Stopped, match=r"latents of main: the current one .* from another vae"):
        run(stage)


def start(action: str, config: Path, store: Path, prior: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.qlearner", action, "--config", str(config)]
    return subprocess.Popen(
        [*command, "--store", str(store), "--prior", prior, *more],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(300)
def test_a_killed_process_ends_with_the_critic_of_an_undisturbed_one(
    make_config: MakeConfig, table: LatentTable, start_prior: Any, tmp_path: Path
) -> None:
    config = make_config(updates=40)
    undisturbed = Store(tmp_path / "undisturbed")
    prior = publish_parents(undisturbed, config, table)
    expected = run(context(config, undisturbed, start_prior(prior).address))

    store = Store(tmp_path / "store")
    assert publish_parents(store, config, table) == prior
    file = tmp_path / "config.yaml"
    file.write_text(dump(config))
    slow = start_prior(prior, delay=0.1).address
    process = start("train", file, store.root, slow)
    while not list((store.root / "checkpoints" / "critic").glob("*/*.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert store.current("critic") is None

    serving = start("serve", file, store.root, start_prior(prior).address, "--train")
    try:
        assert serving.stdout is not None
        address = serving.stdout.readline().split()[-1]
        with grpc.insecure_channel(address) as channel:
            watch = stage_pb2_grpc.StageServiceStub(channel).Watch
            last = list(watch(stage_pb2.StageServiceWatchRequest(), timeout=90))[-1]
            assert last.artifact_version == expected
            stub = critic_pb2_grpc.CriticServiceStub(channel)
            request = critic_pb2.CriticServiceScoreRequest(
                states=encode(table.state[:2]), latents=encode(np.zeros((2, 5, 2), np.float32))
            )
            reply = _once_ready(lambda: stub.Score(request, timeout=30))
        assert reply.model_version == expected
        serving.terminate()
        assert serving.wait(60) == 0
    finally:
        serving.kill()


def _once_ready(call: Callable[[], Any]) -> Any:
    """The follower looks once a second."""
    for _ in range(300):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(0.1)
    raise AssertionError("not ready after 30 s")


def test_score_over_a_socket(
    make_config: MakeConfig, table: LatentTable, start_prior: Any, tmp_path: Path
) -> None:
    config, store = make_config(reward_scale=0.5), Store(tmp_path)
    server = Server("127.0.0.1:0", linger=0)
    follower = add_critic(server, ServiceSettings(config, store))
    channel = grpc.insecure_channel(server.start())
    follower.start()
    try:
        stub = critic_pb2_grpc.CriticServiceStub(channel)
        describe = critic_pb2.CriticServiceDescribeRequest()
        with pytest.raises(grpc.RpcError) as early:
            stub.Describe(describe)
        assert early.value.code() is grpc.StatusCode.UNAVAILABLE

        prior = publish_parents(store, config, table)
        version = run(context(config, store, start_prior(prior).address))
        wait_loaded(follower, 30, version)
        reply = stub.Describe(describe)
        assert (reply.model_version, reply.prior_version) == (version, prior)
        assert (reply.vae_version, reply.state_dim, reply.latent_dim) == (
            store.current("vae"),
            3,
            2,
        )
        _check_scores(stub, store, version)
    finally:
        channel.close()
        follower.stop()
        server.drain(0)


def _check_scores(stub: critic_pb2_grpc.CriticServiceStub, store: Store, version: str) -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(4, 3)).astype(np.float32)
    latents = rng.normal(size=(4, 6, 2)).astype(np.float32)
    reply = stub.Score(
        critic_pb2.CriticServiceScoreRequest(states=encode(states), latents=encode(latents))
    )
    critic = model_of(store.load("critic", version), Critic)
    with torch.no_grad():
        pairs = critic.q_values(
            torch.from_numpy(states.repeat(6, axis=0)), torch.from_numpy(latents.reshape(24, 2))
        )
    expected = pairs.amin(0).reshape(4, 6).numpy() / 0.5
    values = decode(reply.values, field="values", shape=(4, 6))
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    bad = {
        "states": (states[:, :2], latents),
        "latents": (states, latents[:3]),
        r"latents.*at least one": (states, latents[:, :0]),
        r"latents.*nan": (states, np.full_like(latents, np.nan)),
    }
    for message, (given_states, given_latents) in bad.items():
        with pytest.raises(grpc.RpcError, match=message) as refused:
            stub.Score(
                critic_pb2.CriticServiceScoreRequest(
                    states=encode(given_states), latents=encode(given_latents)
                )
            )
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    most = stub.Describe(critic_pb2.CriticServiceDescribeRequest()).max_rows
    many = encode(np.zeros((1, most + 1, 2), np.float32))
    with pytest.raises(grpc.RpcError, match=r"latents: got shape \(1, 262145, 2\)") as refused:
        stub.Score(critic_pb2.CriticServiceScoreRequest(states=encode(states[:1]), latents=many))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(refused.value.details()).endswith("expected at most 262144 rows in one call")
