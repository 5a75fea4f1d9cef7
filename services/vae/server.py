"""`VaeService`: the posterior of windows and the low-level policy over gRPC."""

from __future__ import annotations

from functools import partial

import grpc
import numpy as np
import torch
from torch import Tensor

from common.models import model_of
from common.rpc.codec import decode, encode_result
from common.rpc.errors import InvalidFieldError
from common.rpc.following import current_model
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Follower, owning_variant
from common.training import configure_torch
from common.training.process import serve_process
from ldcq.config import resolve_variant
from ldcq.latent_prior import MAX_ROWS
from ldcq.nn.inference import inference
from ldcq.nn.model import Dimensions
from ldcq.v1 import tensor_pb2, vae_pb2, vae_pb2_grpc
from ldcq.vae.model import Vae
from services.vae.train import STAGE, run

FULL_NAME = vae_pb2.DESCRIPTOR.services_by_name["VaeService"].full_name

ROWS = 4096
"""Windows encoded at once, so that memory does not grow with the request."""


class VaeServicer(vae_pb2_grpc.VaeServiceServicer):
    """Describe, Encode and Decode with the VAE that a follower holds."""

    def __init__(self, follower: Follower[Vae], device: torch.device) -> None:
        self._follower, self._device = follower, device

    def Describe(  # noqa: N802
        self,
        request: vae_pb2.VaeServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> vae_pb2.VaeServiceDescribeResponse:
        """What the VAE is.

        Raises:
            NotReadyError: None has been trained yet.
        """
        version, vae = current_model(self._follower, "VAE")
        size = vae.dimensions
        return vae_pb2.VaeServiceDescribeResponse(
            model_version=version,
            horizon=size.horizon,
            state_dim=size.state,
            action_dim=size.action,
            latent_dim=size.latent,
            discrete_actions=size.discrete_actions,
            max_rows=MAX_ROWS,
        )

    def Encode(  # noqa: N802
        self,
        request: vae_pb2.VaeServiceEncodeRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> vae_pb2.VaeServiceEncodeResponse:
        """q(z | tau) of windows: mean and std, (B, Z) each.

        Raises:
            InvalidFieldError: States are not (B, H, S), or actions not (B, H, A), finite, of the
                right type; or there are none.
            TooLargeError: There are more than `max_rows` steps, B x H.
            NotReadyError: None has been trained yet.
        """
        version, vae = current_model(self._follower, "VAE")
        size = vae.dimensions
        states = self._rows(request.states, "states", (None, size.horizon, size.state))
        actions = self._actions(request.actions, size, len(states))
        with inference():
            batches = zip(torch.split(states, ROWS), torch.split(actions, ROWS), strict=True)
            parts = [vae.encode(*batch) for batch in batches]
        mean, std = (torch.cat(moment).cpu().numpy() for moment in zip(*parts, strict=True))
        return vae_pb2.VaeServiceEncodeResponse(
            mean=encode_result(mean, "latents", "states"),
            std=encode_result(std, "latents", "states"),
            model_version=version,
        )

    def Decode(  # noqa: N802
        self,
        request: vae_pb2.VaeServiceDecodeRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> vae_pb2.VaeServiceDecodeResponse:
        """One action per state and latent, (B, A): the policy's mode, or a sample by `seed`.

        Raises:
            InvalidFieldError: States are not (B, S), or latents not (B, Z), finite; or there are
                none.
            TooLargeError: There are more than `max_rows` of them.
            NotReadyError: None has been trained yet.
        """
        version, vae = current_model(self._follower, "VAE")
        size = vae.dimensions
        states = self._rows(request.states, "states", (None, size.state))
        latents = self._rows(request.latents, "latents", (len(states), size.latent))
        generator = None
        if request.HasField("seed"):
            generator = torch.Generator().manual_seed(request.seed)
        found = vae.act(states, latents, generator).cpu().numpy()
        actions = encode_result(found, "actions", "states")
        return vae_pb2.VaeServiceDecodeResponse(actions=actions, model_version=version)

    def _rows(self, tensor: tensor_pb2.Tensor, field: str, shape: tuple[int | None, ...]) -> Tensor:
        values = decode(tensor, field=field, shape=shape)
        if len(values) == 0:
            raise InvalidFieldError(field, f"shape {values.shape}", "at least one row")
        # Copied: a decoded array is a read-only view of the message.
        return torch.tensor(values, device=self._device)

    def _actions(self, tensor: tensor_pb2.Tensor, size: Dimensions, rows: int) -> Tensor:
        shape = (rows, size.horizon, size.action)
        if not size.discrete_actions:
            return self._rows(tensor, "actions", shape)
        indices = decode(tensor, field="actions", shape=shape, dtype=np.int64)
        outside = (indices < 0) | (indices >= size.discrete_actions)
        if outside.any():
            position = tuple(int(i) for i in np.argwhere(outside)[0])
            expected = f"indices from 0 to {size.discrete_actions - 1}"
            raise InvalidFieldError("actions", f"{indices[position]} at {position}", expected)
        return torch.tensor(indices, device=self._device)


def add_vae(server: Server, settings: ServiceSettings) -> Follower[Vae]:
    """Adds `VaeService` to a server that has not started; what follows the current VAE is to be
    started after it.
    """
    device = configure_torch(resolve_variant(settings.config, settings.variant))
    owner = owning_variant(settings.config, settings.variant, "vae")
    follower = Follower(
        settings.store,
        "vae",
        owner,
        lambda artifact: model_of(artifact, Vae, device),
        wanted=settings.served("vae", owner),
        on_swap=lambda _version, _vae: server.set_serving(FULL_NAME, True),
    )
    add = vae_pb2_grpc.add_VaeServiceServicer_to_server
    server.add(add, VaeServicer(follower, device), FULL_NAME)
    return follower


serve = partial(serve_process, STAGE, run, add_vae)
"""Serves the current VAE until SIGTERM or SIGINT; with `train_first` trains it before."""
