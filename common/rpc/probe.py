"""`python -m common.rpc.probe ADDRESS`: a server's health as an exit code, for container probes."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc.channel import open_channel
from common.rpc.security import Security, SecurityError, explained

HEALTHY, UNHEALTHY = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: asks `grpc.health.v1` once and says on standard output what it heard.

    Returns:
        0 if healthy, 1 if not.
    """
    parser = argparse.ArgumentParser(prog="python -m common.rpc.probe")
    parser.add_argument("address", help="HOST:PORT or unix:/path")
    parser.add_argument("--service", default="", help="full name of one service; default: all")
    parser.add_argument("--live", action="store_true", help="accept any answer")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds")
    parser.add_argument("--server-name", default="", help="name in the certificate; default: host")
    given = parser.parse_args(argv)
    address = given.address
    try:
        security = Security.from_environment()
        name = given.server_name or security.server_name
        # Health is answered without a token.
        security = dataclasses.replace(security, token_file=None, server_name=name)
        channel = open_channel(address, address, [("grpc.enable_http_proxy", 0)], security)
    except SecurityError as error:
        print(f"{address}: {error}")
        return UNHEALTHY
    with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            request = health_pb2.HealthCheckRequest(service=given.service)
            status = stub.Check(request, timeout=given.timeout).status
        except grpc.RpcError as error:
            print(f"{address}: {error.code().name}: {explained(error.details() or '')}")
            return UNHEALTHY
    print(f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")
    serving = status == health_pb2.HealthCheckResponse.SERVING
    return HEALTHY if given.live or serving else UNHEALTHY


if __name__ == "__main__":
    sys.exit(main())
