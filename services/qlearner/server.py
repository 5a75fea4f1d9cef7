"""`CriticService`: the learned values over gRPC (section 4.2)."""

from __future__ import annotations

from functools import partial

import grpc
import torch

from common.models import model_of
from common.rpc.codec import decode, encode_result
from common.rpc.errors import InvalidFieldError
from common.rpc.following import current_model
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Artifact, Follower, owning_variant
from common.training import configure_torch
from common.training.process import serve_process
from ldcq.config import resolve_variant
from ldcq.critic.critic import Critic
from ldcq.latent_prior import MAX_ROWS
from ldcq.nn.inference import inference
from ldcq.v1 import critic_pb2, critic_pb2_grpc
from services.qlearner.train import STAGE, run

FULL_NAME = critic_pb2.DESCRIPTOR.services_by_name["CriticService"].full_name


class ServedCritic:
    """A critic and where it comes from."""

    def __init__(self, artifact: Artifact, device: torch.device | str = "cpu") -> None:
        self.critic = model_of(artifact, Critic, device)
        self.device = device
        self.parents = artifact.meta.parents


class CriticServicer(critic_pb2_grpc.CriticServiceServicer):
    """Describe and Score with the critic that a follower holds."""

    def __init__(self, follower: Follower[ServedCritic]) -> None:
        self._follower = follower

    def Describe(  # noqa: N802
        self,
        request: critic_pb2.CriticServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> critic_pb2.CriticServiceDescribeResponse:
        """What the critic is.

        Raises:
            NotReadyError: None has been trained yet.
        """
        version, served = current_model(self._follower, "critic")
        return critic_pb2.CriticServiceDescribeResponse(
            model_version=version,
            prior_version=served.parents.get("prior", ""),
            vae_version=served.parents.get("vae", ""),
            state_dim=served.critic.dimensions.state,
            latent_dim=served.critic.dimensions.latent,
            max_rows=MAX_ROWS,
        )

    def Score(  # noqa: N802
        self,
        request: critic_pb2.CriticServiceScoreRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> critic_pb2.CriticServiceScoreResponse:
        """Values of every candidate of every state, (N, n), in units of discounted return.

        Raises:
            InvalidFieldError: States are not (N, S), or latents not (N, n, Z), float32 and finite.
            TooLargeError: There are more than `max_rows` latents.
            NotReadyError: None has been trained yet.
        """
        version, served = current_model(self._follower, "critic")
        critic = served.critic
        size = critic.dimensions
        states = decode(request.states, field="states", shape=(None, size.state))
        latents = decode(request.latents, field="latents", shape=(len(states), None, size.latent))
        if latents.shape[0] == 0 or latents.shape[1] == 0:
            raise InvalidFieldError(
                "latents", f"shape {latents.shape}", "at least one state and one candidate"
            )
        with inference():
            # Copied: a decoded array is a read-only view of the message.
            values = critic.score(
                torch.tensor(states, device=served.device),
                torch.tensor(latents, device=served.device),
            )
        return critic_pb2.CriticServiceScoreResponse(
            values=encode_result(values.cpu().numpy(), "values", "states"), model_version=version
        )


def add_critic(server: Server, settings: ServiceSettings) -> Follower[ServedCritic]:
    """Adds `CriticService` to a server that has not started.

    Returns:
        What follows the current critic, to be started after the server.
    """
    device = configure_torch(resolve_variant(settings.config, settings.variant))
    owner = owning_variant(settings.config, settings.variant, "critic")
    follower = Follower(
        settings.store,
        "critic",
        owner,
        lambda artifact: ServedCritic(artifact, device),
        wanted=settings.served("critic", owner),
        on_swap=lambda _version, _critic: server.set_serving(FULL_NAME, True),
    )
    servicer = CriticServicer(follower)
    server.add(critic_pb2_grpc.add_CriticServiceServicer_to_server, servicer, FULL_NAME)
    return follower


serve = partial(serve_process, STAGE, run, add_critic)
"""Serves the current critic until SIGTERM or SIGINT; with `train_first` trains it before."""
