"""TLS and tokens: which files a process has, and what gRPC makes of them at either end."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from common.rpc.tokens import Tokens, stamp

_LOG = logging.getLogger(__name__)

VARIABLES = {
    "ca": "LDCQ_TLS_CA",
    "certificate": "LDCQ_TLS_CERTIFICATE",
    "key": "LDCQ_TLS_KEY",
    "client_ca": "LDCQ_TLS_CLIENT_CA",
    "server_name": "LDCQ_TLS_SERVER_NAME",
    "token_file": "LDCQ_TOKEN_FILE",
}
"""The environment variable of every field of `Security`."""

# What gRPC says of a connection, and what it means here. The first that fits is told.
_EXPLANATIONS = (
    (
        "wrong_version_number",
        f"the server speaks no TLS: start it with {VARIABLES['certificate']}, "
        f"or unset {VARIABLES['ca']} here",
    ),
    (
        "hostname verification",
        "the server's certificate has another name than the address called: "
        f"issue one with that name, or set {VARIABLES['server_name']}",
    ),
    (
        "certificate_verify_failed",
        f"the server's certificate is not one of the authority in {VARIABLES['ca']}, "
        "or has expired",
    ),
)
_NO_CONNECTION = ("connections to all backends failing", "failed to connect to all addresses")
_HUNG_UP = (
    "the server hung up at once: it may want TLS "
    f"({VARIABLES['ca']}) and a client certificate ({VARIABLES['certificate']}, "
    f"{VARIABLES['key']}) of an authority it knows"
)
"""All that a client hears of a server that did not trust it."""


class SecurityError(RuntimeError):
    """Files or settings that cannot protect a connection; the message says which and why."""


@dataclass(frozen=True)
class Security:
    """What protects the connections of a process, as a server and as a client.

    TLS is on where `ca` is given. Only paths are kept here, never what the files hold.

    Attributes:
        ca: Certificates (PEM) of the authorities that sign servers.
        certificate: This process's certificate chain (PEM): a server's own, and what a client shows
            to servers that ask for one.
        key: Its private key (PEM, without a password).
        client_ca: Certificates of the authorities that sign clients; a server with it refuses
            clients without such a certificate (mTLS).
        server_name: The name to find in the servers' certificates, where it is not the host called.
        token_file: Holds the bearer token; a server takes any of its lines, a client sends the
            first.

    Raises:
        SecurityError: A file cannot be used, or one is missing that another needs.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    server_name: str = ""
    token_file: Path | None = None

    def __post_init__(self) -> None:
        for given, needed in (
            ("certificate", "key"),
            ("key", "certificate"),
            ("certificate", "ca"),
            ("client_ca", "certificate"),
        ):
            if getattr(self, given) is not None and getattr(self, needed) is None:
                raise SecurityError(f"{VARIABLES[given]} is set, expected {VARIABLES[needed]} too")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for authority in ("ca", "client_ca"):
            _check(authority, getattr(self, authority), context.load_verify_locations)
        # An empty password: a key that needs one is refused, and nobody is asked for it.
        load = partial(context.load_cert_chain, keyfile=self.key, password="")
        _check("certificate", self.certificate, load)
        self.tokens()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Security:
        """The settings in `VARIABLES`; an empty one counts as not set. Raises like the class."""
        environment = os.environ if environment is None else environment
        given = {name: environment.get(variable, "") for name, variable in VARIABLES.items()}
        paths = {n: Path(v) for n, v in given.items() if v and n != "server_name"}
        return cls(server_name=given["server_name"], **paths)

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted and servers verified."""
        return self.ca is not None

    def tokens(self) -> Tokens | None:
        """The accepted tokens, or None where none is asked for.

        Raises:
            SecurityError: The file cannot be read, or holds no token.
        """
        if self.token_file is None:
            return None
        try:
            return Tokens(self.token_file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SecurityError(
                f"{VARIABLES['token_file']}={self.token_file}: {reason}; "
                "`ldcq certificates` makes one"
            ) from None

    def check_server(self, address: str) -> None:
        """Refuses to serve where the settings promise more than would be kept.

        Raises:
            SecurityError: TLS without a certificate, or a token that would come in the clear.
        """
        if self.is_tls and self.certificate is None:
            raise SecurityError(
                f"{VARIABLES['ca']} is set: expected {VARIABLES['certificate']} and "
                f"{VARIABLES['key']} for the server on {address} too"
            )
        self.check_target(address)

    def check_target(self, address: str) -> None:
        """Refuses to send the token in the clear to another machine. Raises SecurityError."""
        if self.token_file is not None and not self.is_tls and not is_local(address):
            raise SecurityError(
                f"{VARIABLES['token_file']} is set without TLS: the token would travel to or from "
                f"{address} in the clear; set {VARIABLES['ca']}, or unset the token"
            )

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """What a server binds with; files that are replaced are read anew. None without TLS."""
        if self.certificate is None:
            return None
        files = _ServerFiles(self)
        changed: Any = files.changed  # may return None, which the type stubs do not know
        return grpc.dynamic_ssl_server_credentials(
            files.configuration(), changed, self.client_ca is not None
        )

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """What a channel connects with, as the files are now; None without TLS."""
        if self.ca is None:
            return None
        chain: tuple[bytes | None, bytes | None] = (None, None)
        if self.key is not None and self.certificate is not None:
            chain = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), *chain)

    def __str__(self) -> str:
        kinds = ["mTLS" if self.client_ca is not None else "TLS"] if self.is_tls else ["no TLS"]
        return ", ".join([*kinds, "token" if self.token_file is not None else "no token"])


class _ServerFiles:
    """A server's certificate, read again when its files were replaced: they expire sooner than it.

    What cannot be used is logged, and the one before stays.
    """

    def __init__(self, security: Security) -> None:
        self._security = security
        self._lock = threading.Lock()
        self._seen = self._stamps()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        own = self._security
        assert own.key is not None
        assert own.certificate is not None
        pair = (own.key.read_bytes(), own.certificate.read_bytes())
        authority = None if own.client_ca is None else own.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], authority)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks at every handshake; None: as before."""
        with self._lock:
            try:
                stamps = self._stamps()
                if stamps == self._seen:
                    return None
                self._seen = stamps
                replace(self._security)  # verified before it is taken
                _LOG.info("serving with the certificate now in %s", self._security.certificate)
                return self.configuration()
            except (OSError, SecurityError) as error:
                _LOG.error("keeping the certificate from before: %s", error)
                return None

    def _stamps(self) -> list[tuple[int, int, int]]:
        own = self._security
        paths = (own.key, own.certificate, own.client_ca)
        return [stamp(path) for path in paths if path is not None]


def is_local(target: str) -> bool:
    """Whether what is sent to (or received at) all of a target's addresses stays on the machine."""
    return all(_is_loopback(part.strip()) for part in target.split(","))


def _is_loopback(address: str) -> bool:
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:///", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    try:
        host = urlsplit(f"//{address}").hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, or nothing that could be called
        return False


def explained(details: str) -> str:
    """The details of a failed call, with what to do where it failed for want of trust."""
    found = mistrust(details)
    return f"{found} ({details})" if found else details


def mistrust(details: str) -> str:
    """What to do about a connection that failed for want of trust; empty where it was not that."""
    lower = details.lower()
    for sign, meaning in _EXPLANATIONS:
        if sign in lower:
            return meaning
    hung_up = "socket closed" in lower and any(sign in lower for sign in _NO_CONNECTION)
    return _HUNG_UP if hung_up else ""


def _check(field: str, path: Path | None, load: Callable[[Path], None]) -> None:
    try:
        if path is not None:
            load(path)
    except ssl.SSLError as error:
        key = " and its own key, without a password" if field == "certificate" else ""
        raise SecurityError(
            f"{VARIABLES[field]}={path}: not usable ({error.reason or error}); "
            f"expected a certificate in PEM{key}"
        ) from None
    except OSError as error:
        raise SecurityError(f"{VARIABLES[field]}={path}: {error.strerror}") from None
