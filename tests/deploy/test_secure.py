"""docker-compose.secure.yml on a real engine: who is let in. Run by `make test-compose`.

Nothing is trained: services answer, and refuse, before they have a model.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from cli.certificates import environment
from common.rpc.channel import open_channel, resolve
from common.rpc.security import Security
from ldcq.v1 import stage_pb2, stage_pb2_grpc
from tests.stack import Stack, engine

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(1800),  # the images, where they are not built yet
    pytest.mark.xdist_group("stack"),
]
PROBE = ("python", "-m", "common.rpc.probe", "--live")


def run(container: Any, *command: str) -> tuple[int, str]:
    """The exit code and what a command in a container printed."""
    code, output = container.exec_run(list(command))
    return int(code), output.decode()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A prior and an actor that wait for what nobody trains."""
    name = f"ldcq-test-secure-{os.getpid()}"
    made = Stack(engine(), name, "demo", files=("docker-compose.secure.yml",))
    try:
        made.compose("build", "prior", "actor")
        made.compose("up", "--detach", "prior", "actor")
        for service in ("prior", "actor"):
            (container,) = made.containers(service)
            probe = (*PROBE, "127.0.0.1:50051")
            made.until(service, lambda: run(container, *probe)[0] == 0)  # noqa: B023
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout=5")


@pytest.fixture(scope="module")
def known(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Security:
    """What a client on this machine has after copying the files out, as docs/security.md says."""
    folder = tmp_path_factory.mktemp("client") / "tls"
    stack.compose("cp", "actor:/tls", str(folder))
    return Security.from_environment(environment(folder))


def first_answer(stack: Stack, security: Security) -> stage_pb2.StageServiceWatchResponse:
    """How the actor's stage stands, asked for through the port that is published."""
    target = f"localhost:{stack.port}"
    options: list[tuple[str, int | str]] = [("grpc.enable_retries", 0)]
    with open_channel(target, resolve(target), options, security) as channel:
        stub = stage_pb2_grpc.StageServiceStub(channel)
        return next(iter(stub.Watch(stage_pb2.StageServiceWatchRequest(), timeout=30)))


def refusal(stack: Stack, security: Security) -> grpc.StatusCode:
    """The code that the same call ends with."""
    with pytest.raises(grpc.RpcError) as refused:
        first_answer(stack, security)
    return refused.value.code()


def test_who_has_the_certificate_and_the_token_is_answered(stack: Stack, known: Security) -> None:
    assert first_answer(stack, known).stage == "evaluation"


def test_who_has_no_token_is_unauthenticated(stack: Stack, known: Security) -> None:
    code = refusal(stack, dataclasses.replace(known, token_file=None))
    assert code == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("authority", [True, False], ids=["no certificate", "no TLS"])
def test_who_has_no_certificate_gets_no_connection(
    stack: Stack, known: Security, authority: bool
) -> None:
    """Not even to learn whether the token it sends is right."""
    token = known.token_file if authority else None  # refused by the client itself without TLS
    code = refusal(stack, Security(ca=known.ca if authority else None, token_file=token))
    assert code == grpc.StatusCode.UNAVAILABLE


def test_services_find_each_others_names_in_the_certificates(stack: Stack) -> None:
    for caller, called in (("actor", "prior"), ("prior", "actor")):
        (container,) = stack.containers(caller)
        code, said = run(container, *PROBE, f"{called}:50051")
        assert code == 0, said


def test_services_can_read_their_files_and_not_change_them(stack: Stack) -> None:
    (maker,) = stack.containers("certificates", running=False)
    assert maker.attrs["State"]["ExitCode"] == 0
    for service in ("prior", "actor"):
        (container,) = stack.containers(service)
        code, listed = run(container, "stat", "-c", "%U %a", "/tls/key.pem", "/tls/token")
        assert (code, listed.split("\n")[:2]) == (0, ["ldcq 600", "ldcq 600"])
        code, said = run(container, "touch", "/tls/token")
        assert code == 1
        assert "Read-only file system" in said
