"""TLS, client certificates and the token, over real sockets."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import prometheus_client
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cli.certificates import environment, issue
from common.rpc.channel import connect, open_channel, resolve
from common.rpc.clients import PriorClient
from common.rpc.conformance import check_prior
from common.rpc.errors import CallError, PriorUnavailableError
from common.rpc.prior import FULL_NAME
from common.rpc.probe import main as probe
from common.rpc.security import VARIABLES, Security, SecurityError, mistrust
from common.rpc.server import Server
from common.rpc.stage import FULL_NAME as STAGE
from common.rpc.stage import Progress, StageServicer
from common.rpc.tokens import Tokens
from ldcq.learning.learner import Stopped
from ldcq.v1 import prior_pb2, prior_pb2_grpc, stage_pb2, stage_pb2_grpc
from tests.draws import draw
from tests.numpy_prior import NumpyPrior

Start = Callable[..., str]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two installations that know nothing of each other."""
    own, other = (tmp_path_factory.mktemp(name) for name in ("own", "other"))
    issue(own)
    issue(other)
    return own, other


@pytest.fixture
def full(folders: tuple[Path, Path]) -> Security:
    """Client certificates and the token."""
    return Security.from_environment(environment(folders[0]))


@pytest.fixture
def in_environment(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(folders[0]).items():
        monkeypatch.setenv(name, value)


def describe(target: str, security: Security) -> str:
    """The model version that a server names, without any retry."""
    options: list[tuple[str, int | str]] = [("grpc.enable_retries", 0)]
    with open_channel(target, resolve(target), options, security) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        reply = stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=10)
    return str(reply.model_version)


def code(target: str, security: Security) -> grpc.StatusCode:
    """How the same call ends."""
    try:
        describe(target, security)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def without(security: Security, *names: str) -> Security:
    changes: dict[str, Any] = dict.fromkeys(names, None)
    return dataclasses.replace(security, **changes)


@pytest.mark.usefixtures("in_environment")
def test_a_process_is_protected_by_its_environment_alone(start: Start) -> None:
    """Server, client, futures, health checks and all of the contract, with what `issue` made."""
    address = start(NumpyPrior())
    with PriorClient(address, patience=0.1) as client:
        drawn = client.sample_async(draw(np.zeros((3, 3)), 2, seed=1)).result(10)
    assert drawn.latents.shape[:2] == (3, 2)
    assert all(result.passed for result in check_prior(address))
    with pytest.raises(grpc.RpcError):
        describe(address, Security())


@pytest.mark.parametrize("target", ["{host}:{port},localhost:{port}", "localhost:{port}"])
def test_names_and_lists_of_names_are_verified(start: Start, full: Security, target: str) -> None:
    host, _, port = start(NumpyPrior(), security=full).rpartition(":")
    with connect(target.format(host=host, port=port), security=full) as channel:
        stub = prior_pb2_grpc.PriorServiceStub(channel)
        stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=10)


def test_a_socket_file_is_as_well_protected(start: Start, full: Security, tmp_path: Path) -> None:
    address = start(NumpyPrior(), address=f"unix:{tmp_path}/s", security=full)
    assert describe(f"{address},unix:{tmp_path}/nobody", full)
    with pytest.raises(grpc.RpcError, match="Socket closed"):
        describe(address, Security())


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("token", ["none", "wrong"])
def test_without_the_token_nothing_but_health_answers(
    start: Start, full: Security, folders: tuple[Path, Path], token: str, tls: bool
) -> None:
    server = full if tls else Security(token_file=full.token_file)  # on the machine itself
    address = start(NumpyPrior(), security=server)
    client = without(server, "token_file")
    if token == "wrong":
        client = dataclasses.replace(client, token_file=folders[1] / "token")
    with connect(address, security=client) as channel:
        calls: dict[str, Callable[[], Any]] = {
            "Sample": lambda: prior_pb2_grpc.PriorServiceStub(channel).Sample(
                prior_pb2.PriorServiceSampleRequest(), timeout=10
            ),
            "Watch": lambda: next(
                stage_pb2_grpc.StageServiceStub(channel).Watch(
                    stage_pb2.StageServiceWatchRequest(), timeout=10
                )
            ),
            "reflection": lambda: next(
                reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                    iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
                )
            ),
        }
        for name, call in calls.items():
            with pytest.raises(grpc.RpcError) as raised:
                call()
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
            assert "LDCQ_TOKEN_FILE" in str(raised.value.details())
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(service=FULL_NAME), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert next(health.Watch(health_pb2.HealthCheckRequest(), timeout=10)).status
    with pytest.raises(CallError, match="UNAUTHENTICATED"), _client(address, client) as prior:
        prior.describe()


def _client(address: str, security: Security) -> PriorClient:
    """A client of a process whose environment says `security`."""
    given = {name: getattr(security, name) for name in VARIABLES}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(VARIABLES[name], str(value or ""))
        return PriorClient(address, patience=0.3)


def test_with_the_token_streams_and_reflection_answer(full: Security) -> None:
    server = Server(linger=0.0, grace=0.5, security=full)
    progress = Progress("vae")
    progress.waiting("for something")
    server.add(stage_pb2_grpc.add_StageServiceServicer_to_server, StageServicer(progress), STAGE)
    try:
        with connect(server.start(), security=full) as channel:
            stub = stage_pb2_grpc.StageServiceStub(channel)
            stream = stub.Watch(stage_pb2.StageServiceWatchRequest(), timeout=10)
            assert next(iter(stream)).message == "for something"
            stream.cancel()
            listed = next(
                reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                    iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
                )
            )
            names = [service.name for service in listed.list_services_response.service]
            assert STAGE in names
    finally:
        server.drain(0)


def test_refusals_are_counted_but_not_by_names_made_up(start: Start, full: Security) -> None:
    def count(method: str) -> float | None:
        labels = {"method": method, "code": "UNAUTHENTICATED"}
        return prometheus_client.REGISTRY.get_sample_value("ldcq_rpc_requests_total", labels)

    known = f"/{FULL_NAME}/Describe"
    before = count(known) or 0
    with connect(start(NumpyPrior(), security=full), security=without(full, "token_file")) as c:
        for method in (known, "/made.up/Name"):
            with pytest.raises(grpc.RpcError) as raised:
                c.unary_unary(method)(b"", timeout=10)  # type: ignore[arg-type]
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert count(known) == before + 1
    assert count("/made.up/Name") is None


def test_who_is_not_trusted_does_not_connect(
    start: Start, full: Security, folders: tuple[Path, Path]
) -> None:
    """The reason is in the details of UNAVAILABLE as far as the client can know it."""
    other = folders[1]
    address = start(NumpyPrior(), security=full)
    own = without(full, "certificate", "key", "client_ca")
    foreign = {"certificate": other / "certificate.pem", "key": other / "key.pem"}
    clients = {
        "no certificate": (own, "LDCQ_TLS_CERTIFICATE"),
        "a certificate of another authority": (
            dataclasses.replace(full, **foreign),  # type: ignore[arg-type]
            "authority it knows",
        ),
        "no TLS": (Security(), "LDCQ_TLS_CA"),
        "another authority for servers": (
            dataclasses.replace(full, ca=other / "ca.pem"),
            "not one of the authority in LDCQ_TLS_CA",
        ),
        "another name": (
            dataclasses.replace(full, server_name="elsewhere"),
            "LDCQ_TLS_SERVER_NAME",
        ),
    }
    for name, (client, hint) in clients.items():
        with pytest.raises(grpc.RpcError) as raised:
            describe(address, client)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE, name
        assert hint in mistrust(str(raised.value.details())), (name, raised.value.details())
    with pytest.raises(grpc.RpcError) as raised:
        describe(start(NumpyPrior(), security=Security()), own)
    assert "speaks no TLS" in mistrust(str(raised.value.details()))
    with (
        pytest.raises(PriorUnavailableError, match="LDCQ_TLS_CERT"),
        _client(address, own) as prior,
    ):
        prior.describe()


def test_who_waits_for_a_prior_is_told_why_it_is_not_reached(start: Start, full: Security) -> None:
    told, stop = list[str](), threading.Event()

    def on_wait(message: str) -> None:
        told.append(message)
        stop.set()

    client = _client(start(NumpyPrior(), security=full), Security())
    with client, pytest.raises(Stopped):
        client.wait_ready(on_wait, stop)
    assert "LDCQ_TLS_CA" in told[0]


def test_the_probe_needs_the_certificate_and_no_token(
    start: Start, full: Security, monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path]
) -> None:
    address = start(NumpyPrior(), security=full)
    assert probe([address]) == 1
    for name, value in environment(folders[0]).items():
        if name != "LDCQ_TOKEN_FILE":
            monkeypatch.setenv(name, value)
    assert probe([address]) == 0
    monkeypatch.setenv("LDCQ_TLS_SERVER_NAME", "elsewhere")
    assert probe([address]) == 1
    assert probe([address, "--server-name", "actor"]) == 0
    monkeypatch.setenv("LDCQ_TLS_KEY", "")
    assert probe([address]) == 1  # and no traceback


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LDCQ_TLS_KEY": ""}, "LDCQ_TLS_CERTIFICATE is set, expected LDCQ_TLS_KEY"),
        ({"LDCQ_TLS_CERTIFICATE": "", "LDCQ_TLS_CLIENT_CA": ""}, "expected LDCQ_TLS_CERTIFICATE"),
        ({"LDCQ_TLS_CA": ""}, "expected LDCQ_TLS_CA"),
        ({"LDCQ_TLS_CA": "/nowhere.pem"}, "LDCQ_TLS_CA=/nowhere.pem: No such file"),
        ({"LDCQ_TLS_CLIENT_CA": "{own}/token"}, "LDCQ_TLS_CLIENT_CA=.*expected a certificate"),
        ({"LDCQ_TLS_KEY": "{other}/key.pem"}, "LDCQ_TLS_CERTIFICATE=.*its own key"),
        ({"LDCQ_TOKEN_FILE": "/nowhere"}, "LDCQ_TOKEN_FILE=/nowhere: No such file"),
        ({"LDCQ_TOKEN_FILE": "/dev/null"}, "it is empty"),
    ],
)
def test_half_a_protection_is_refused(
    folders: tuple[Path, Path], changes: dict[str, str], message: str
) -> None:
    own, other = folders
    changes = {name: value.format(own=own, other=other) for name, value in changes.items()}
    with pytest.raises(SecurityError, match=message):
        Security.from_environment({**environment(own), **changes})


def test_a_token_goes_in_the_clear_within_the_machine_only(full: Security) -> None:
    clear = Security(token_file=full.token_file)
    for address in ("127.0.0.1:0", "localhost:0", "[::1]:0", "unix:/tmp/x"):
        Server(address, security=clear)
    for address in ("0.0.0.0:0", "[::]:0", "10.0.0.1:0"):
        with pytest.raises(SecurityError, match="in the clear"):
            Server(address, security=clear)
    names = ("dns:///prior:50051", "localhost.example:1", "127.evil.example.com:50051")
    for target in (*names, "127.0.0.1:1,10.0.0.1:1", "127.0.0.1@evil.example.com:1", "[::1:1"):
        with pytest.raises(SecurityError, match="in the clear"):
            connect(target, security=clear)
    with pytest.raises(SecurityError, match="LDCQ_TLS_CERTIFICATE"):
        Server(security=without(full, "certificate", "key", "client_ca"))


def test_a_token_that_cannot_be_used_is_not_repeated(tmp_path: Path) -> None:
    for secret in ("tooshort", "has spaces in the middle", "не-ascii-символы-совсем"):
        file = tmp_path / "token"
        file.write_text(secret)
        with pytest.raises(SecurityError, match="at least 16") as raised:
            Security(token_file=file)
        assert secret not in str(raised.value)


def test_secrets_are_neither_shown_nor_logged(
    start: Start, full: Security, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert full.token_file is not None
    assert full.key is not None
    secrets = (full.token_file.read_text().strip(), full.key.read_text().splitlines()[1])
    address = start(NumpyPrior(), security=full)
    describe(address, full)
    with pytest.raises(grpc.RpcError):
        describe(address, without(full, "token_file"))
    assert "mTLS, token" in caplog.text
    assert not [s for s in secrets if s in caplog.text + repr(full) + str(full)]


def test_a_token_is_changed_while_servers_run(start: Start, tmp_path: Path) -> None:
    old, new = "old-old-old-old-old", "new-new-new-new-new"
    files = {name: tmp_path / name for name in ("server", "old", "new")}
    for name, content in (("server", f"{old}\n"), ("old", old), ("new", new)):
        files[name].write_text(content)
    address = start(NumpyPrior(), security=Security(token_file=files["server"]))

    def accepted() -> list[str]:
        clients = {name: Security(token_file=files[name]) for name in ("old", "new")}
        codes = {name: code(address, client) for name, client in clients.items()}
        assert set(codes.values()) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED}
        return [name for name in codes if codes[name] is grpc.StatusCode.OK]

    assert accepted() == ["old"]
    files["server"].write_text(f"{new}\n{old}\n")
    assert accepted() == ["old", "new"]
    files["server"].write_text(f"{new}\n")
    assert accepted() == ["new"]
    files["server"].write_text("")  # half way through an edit
    assert accepted() == ["new"]


def test_a_certificate_is_replaced_while_a_server_runs(start: Start, tmp_path: Path) -> None:
    issue(tmp_path)
    security = Security.from_environment(environment(tmp_path))
    address = start(NumpyPrior(), security=security)
    renamed = dataclasses.replace(security, server_name="renewed")
    with pytest.raises(grpc.RpcError, match="Hostname Verification"):
        describe(address, renamed)
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / name).unlink()
    issue(tmp_path, ["renewed", "127.0.0.1"])
    assert describe(address, renamed)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_schemes_name_is_taken_in_any_case(tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "token"
    file.write_text("sixteen-or-longer\n")
    tokens = Tokens(file)
    assert tokens.accept([f"{scheme} sixteen-or-longer"])
    assert not tokens.accept([f"{scheme} sixteen-or-wrong", "Basic sixteen-or-longer", scheme])
