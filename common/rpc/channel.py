"""Channels: one target string to a connection over all replicas behind it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from itertools import chain

import grpc

from common.rpc.options import Options, channel_options
from common.rpc.security import Security
from common.rpc.tokens import TokenClientInterceptor

_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "xds:")


class TargetError(ValueError):
    """A target that names no address; the message says what was given and what is expected."""


def connect(
    target: str | Sequence[str],
    *,
    health_service: str | None = "",
    security: Security | None = None,
) -> grpc.Channel:
    """Opens a channel that spreads calls over all healthy replicas; nothing is sent yet.

    Args:
        target: `dns:///prior:50051` (all addresses of the name, looked up again as connections
            end), `host:port`, `unix:/path`, or several of the last two, joined by commas or as a
            sequence.
        health_service: Replicas that do not report SERVING for it get no calls; "" is the whole
            server, None asks nothing (for `StageService`, which answers before there is a model).
        security: TLS and token; None: as the environment says.

    Raises:
        TargetError: Not an address, or one of several hosts is unknown.
        SecurityError: The files for TLS or the token cannot be used, or not with this target.
    """
    text = target if isinstance(target, str) else ",".join(target)
    return open_channel(text, resolve(text), channel_options(health_service), security)


def open_channel(
    target: str, resolved: str, options: Options, security: Security | None = None
) -> grpc.Channel:
    """A channel to `resolved`, with TLS and token as `security` (None: the environment) asks for;
    certificates bear the host names of `target`.
    """
    security = Security.from_environment() if security is None else security
    security.check_target(target)
    credentials, tokens = security.channel_credentials(), security.tokens()
    if credentials is None:
        channel = grpc.insecure_channel(resolved, options=options)
    else:
        name = security.server_name or _certified_name(target)
        named: Options = [("grpc.ssl_target_name_override", name)] if name else []
        channel = grpc.secure_channel(resolved, credentials, options=[*options, *named])
    if tokens is None:
        return channel
    return grpc.intercept_channel(channel, TokenClientInterceptor(tokens))


def _certified_name(target: str) -> str:
    """The name to find in a certificate where gRPC would look for the whole list, or for the path
    of a socket file; empty where it knows by itself.
    """
    first, *more = target.split(",")
    if first.startswith(("unix:", "unix-abstract:")):
        return "localhost"
    if not more:
        return ""
    return first.strip().removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")


def resolve(target: str | Sequence[str]) -> str:
    """The target as gRPC takes it.

    A list of hosts is looked up here, once: gRPC has no scheme for a list of names. Use a DNS name
    with several addresses where replicas come and go.

    Raises:
        TargetError: Not an address, or one of several hosts is unknown.
    """
    text = target if isinstance(target, str) else ",".join(target)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise TargetError(
            f"target: got {text!r}, expected HOST:PORT, dns:///HOST:PORT or unix:/path"
        )
    if len(parts) == 1:
        return parts[0] if parts[0].startswith(_SCHEMES) else f"dns:///{_checked(parts[0])}"
    if parts[0].startswith(("ipv4:", "ipv6:")):
        return ",".join(parts)
    if all(part.startswith("unix:") for part in parts):
        return "unix:" + ",".join(part.removeprefix("unix:") for part in parts)
    return _address_list([_checked(part) for part in parts])


def label(target: str | Sequence[str]) -> str:
    """A target for people: of many addresses the first, and how many more there are."""
    first, *more = target.split(",") if isinstance(target, str) else target
    if len(more) > 2:
        return f"{first} (or {len(more)} other addresses)"
    return ",".join([first, *more])


def check(target: str) -> None:
    """Raises TargetError where the target is no address; looks no host up."""
    for part in target.split(","):
        if not part.strip().startswith(_SCHEMES):
            _checked(part.strip())


def _checked(part: str) -> str:
    host, _, port = part.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in part:
        raise TargetError(
            f"target: got {part!r}, expected HOST:PORT (for example 127.0.0.1:50051), "
            "dns:///HOST:PORT or unix:/path"
        )
    return part


def _address_list(parts: Sequence[str]) -> str:
    """`ipv4:a:1,b:2`, or `ipv6:[a]:1,[b]:2` when a host has only such addresses."""
    found = []
    for part in parts:
        host, _, port = part.rpartition(":")
        try:
            answers = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise TargetError(
                f"target: host {host!r} is not known ({error.strerror}); is its service started?"
            ) from error
        hosts = {str(answer[4][0]).partition("%")[0] for answer in answers}
        found.append(([ipaddress.ip_address(host) for host in hosts], port))
    for version, scheme, shape in ((4, "ipv4", "{}:{}"), (6, "ipv6", "[{}]:{}")):
        chosen = [
            [shape.format(a, port) for a in sorted(addresses, key=str) if a.version == version]
            for addresses, port in found
        ]
        if all(chosen):
            return f"{scheme}:" + ",".join(dict.fromkeys(chain.from_iterable(chosen)))
    raise TargetError(f"target: {', '.join(parts)} mix IPv4-only and IPv6-only hosts")
