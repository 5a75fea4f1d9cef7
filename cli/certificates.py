"""An authority, a certificate and a token for development; needs the extra `certificates`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509

NAMES = (
    *("localhost", "127.0.0.1", "::1"),
    *("vae", "prior", "prior-trainer", "qlearner", "actor"),
    *("prior-bcq-h", "prior-trainer-bcq-h", "qlearner-bcq-h", "world-model", "bc", "frames"),
)
"""What the services are called on one machine and in docker-compose.yml."""

AUTHORITY, CERTIFICATE, KEY, TOKEN = "ca.pem", "certificate.pem", "key.pem", "token"
_AUTHORITY_KEY = "ca-key.pem"
_DAYS, _RENEW_DAYS = 365, 30


class CertificatesError(RuntimeError):
    """Certificates that cannot be made; the message says why."""


def issue(folder: Path, names: Sequence[str] = NAMES) -> list[str]:
    """Makes what is missing of an authority, a certificate it signs, and a token.

    What is there is kept, but for a certificate that lacks a name or expires within 30 days. One
    certificate serves all services, as servers and as clients: for development, not for a network
    of people who do not trust each other.

    Args:
        folder: Where; created. Keys and the token in it are readable by their owner only.
        names: Host names and addresses that the certificate is for.

    Returns:
        The files it wrote; the others in the folder were kept.

    Raises:
        CertificatesError: A name is none, the authority there is damaged, or the folder does not
            take the files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _issue(folder, names)
    except OSError as error:
        raise CertificatesError(f"{folder}: {error.strerror or error}") from error
    except ValueError as error:
        raise CertificatesError(f"{folder}, names {', '.join(names)}: {error}") from error


def _issue(folder: Path, names: Sequence[str]) -> list[str]:
    made = []
    if not (folder / AUTHORITY).exists() or not (folder / _AUTHORITY_KEY).exists():
        authority = trustme.CA(path_length=0, organization_name="ldcq development authority")
        _write(folder / _AUTHORITY_KEY, authority.private_key_pem.bytes(), secret=True)
        _write(folder / AUTHORITY, authority.cert_pem.bytes())
        made += [AUTHORITY, _AUTHORITY_KEY]
    if made or not _is_good(folder, names):
        pems = [(folder / name).read_bytes() for name in (AUTHORITY, _AUTHORITY_KEY)]
        now = datetime.now(UTC)
        certificate = trustme.CA.from_pem(*pems).issue_cert(
            *names,
            organization_name="ldcq",
            not_before=now - timedelta(minutes=5),  # clocks differ
            not_after=now + timedelta(days=_DAYS),
        )
        _write(folder / KEY, certificate.private_key_pem.bytes(), secret=True)
        _write(folder / CERTIFICATE, certificate.cert_chain_pems[0].bytes())
        made += [CERTIFICATE, KEY]
    if not (folder / TOKEN).exists():
        _write(folder / TOKEN, f"{secrets.token_urlsafe(32)}\n".encode(), secret=True)
        made.append(TOKEN)
    return made


def environment(folder: Path) -> dict[str, str]:
    """The variables with which a process uses what `issue` made: mTLS and the token."""
    folder = folder.absolute()
    return {
        "LDCQ_TLS_CA": str(folder / AUTHORITY),
        "LDCQ_TLS_CERTIFICATE": str(folder / CERTIFICATE),
        "LDCQ_TLS_KEY": str(folder / KEY),
        "LDCQ_TLS_CLIENT_CA": str(folder / AUTHORITY),
        "LDCQ_TOKEN_FILE": str(folder / TOKEN),
    }


def _is_good(folder: Path, names: Sequence[str]) -> bool:
    """Whether the certificate is there, for these names, and not about to expire."""
    if not (folder / KEY).exists():
        return False
    try:
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {name.lower() for name in names} <= {str(name.value) for name in found} and (
        certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=_RENEW_DAYS)
    )


def _write(path: Path, content: bytes, secret: bool = False) -> None:
    """Replaces a file; a secret was never readable by others."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    mode = 0o600 if secret else 0o644
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
