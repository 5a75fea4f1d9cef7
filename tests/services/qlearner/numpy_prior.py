"""A prior without torch, to be run as a process of its own: `python numpy_prior.py VERSION`.

Its latents are noise around the state's mean, fixed by the request's seed, as the contract asks.
"""

from __future__ import annotations

import sys
import time

import grpc
import numpy as np

from common.rpc.codec import decode, encode
from common.rpc.errors import VersionMismatchError
from common.rpc.server import Server
from ldcq.v1 import prior_pb2, prior_pb2_grpc

STATE_DIM, LATENT_DIM, MAX_ROWS = 3, 2, 4096


class NumpyPrior(prior_pb2_grpc.PriorServiceServicer):
    """Answers the two calls; every Sample takes `delay` seconds."""

    def __init__(self, version: str, delay: float) -> None:
        self._version, self._delay = version, delay

    def Describe(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> prior_pb2.PriorServiceDescribeResponse:
        return prior_pb2.PriorServiceDescribeResponse(
            implementation="numpy",
            model_version=self._version,
            vae_version="vae",
            state_dim=STATE_DIM,
            latent_dim=LATENT_DIM,
            max_rows=MAX_ROWS,
        )

    def Sample(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceSampleRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> prior_pb2.PriorServiceSampleResponse:
        if request.expected_model_version not in ("", self._version):
            raise VersionMismatchError(self._version, request.expected_model_version)
        states = decode(request.states, field="states", shape=(None, STATE_DIM))
        time.sleep(self._delay)
        noise = np.random.default_rng(request.seed).normal(
            size=(len(states), request.candidates, LATENT_DIM)
        )
        latents = (noise + states.mean(axis=1)[:, None, None]).astype(np.float32)
        return prior_pb2.PriorServiceSampleResponse(
            latents=encode(latents), model_version=self._version
        )


def main(version: str, address: str, delay: str) -> None:
    server = Server(address, linger=0.0)
    server.add(
        prior_pb2_grpc.add_PriorServiceServicer_to_server,
        NumpyPrior(version, float(delay)),
        "ldcq.v1.PriorService",
    )
    server.set_serving("ldcq.v1.PriorService", True)
    print("listening on", server.start(), flush=True)
    server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
