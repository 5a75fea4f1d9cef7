"""The largest call that a critic takes needs little memory, however wide its networks are."""

from __future__ import annotations

from pathlib import Path

from ldcq.latent_prior import MAX_ROWS
from tests.memory import run_measured

PROGRAM = """
import sys
import grpc, numpy as np, torch
from common.models import parts_of
from common.rpc.codec import encode
from common.rpc.options import channel_options
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Store
from ldcq.config import Config
from ldcq.critic.critic import Critic
from ldcq.latent_prior import MAX_ROWS
from ldcq.nn.model import Dimensions
from ldcq.v1 import critic_pb2, critic_pb2_grpc
from services.qlearner.server import add_critic
from tests.following import wait_loaded
from tests.memory import most_taken

config = Config.model_validate({"device": "cpu", "threads": 1, "critic": {"hidden": (256, 256)}})
store, server = Store(sys.argv[1]), Server(linger=0)
store.publish(*parts_of(Critic(Dimensions(state=4, latent=16), config.critic)), "")
follower = add_critic(server, ServiceSettings(config, store))
stub = critic_pb2_grpc.CriticServiceStub(grpc.insecure_channel(server.start(), channel_options()))
follower.start()
wait_loaded(follower, 30)

def score(states, candidates):
    zeros = np.zeros((states, candidates, 16), np.float32)
    request = critic_pb2.CriticServiceScoreRequest(
        states=encode(np.zeros((states, 4), np.float32)), latents=encode(zeros)
    )
    return stub.Score(request, timeout=100)

score(1, 2048)
print(most_taken(lambda: score(1, MAX_ROWS)))
print(most_taken(lambda: score(MAX_ROWS, 1)))
follower.stop()
server.drain(0)
"""


def test_the_largest_call_takes_a_few_times_its_own_size(tmp_path: Path) -> None:
    latents = 4 * 16 * MAX_ROWS  # bytes; client and server are one process here
    assert max(run_measured(PROGRAM, tmp_path)) < 15 * latents < 256 * 4 * MAX_ROWS
