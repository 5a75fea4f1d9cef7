"""An authority, a certificate and a token for development; needs the extra `certificates`."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = (
    *("localhost", "127.0.0.1", "::1"),
    *("vae", "prior", "prior-trainer", "qlearner", "actor"),
    *("prior-bcq-h", "prior-trainer-bcq-h", "qlearner-bcq-h", "world-model", "bc"),
)
"""What the services are called on one machine and in docker-compose.yml."""

AUTHORITY, CERTIFICATE, KEY, TOKEN = "ca.pem", "certificate.pem", "key.pem", "token"
_AUTHORITY_KEY = "ca-key.pem"
_AUTHORITY_DAYS, _DAYS, _RENEW_DAYS = 3650, 365, 30


class CertificatesError(RuntimeError):
    """Certificates that cannot be made; the message says why."""


@dataclass(frozen=True)
class Issued:
    """What `issue` did: `made` are the files it wrote, the others in the folder were kept."""

    folder: Path
    made: tuple[str, ...]


def issue(folder: Path, names: Sequence[str] = NAMES) -> Issued:
    """Makes what is missing of an authority, a certificate it signs, and a token.

    What is there is kept, but for a certificate that lacks a name or expires within 30 days. One
    certificate serves all services, as servers and as clients: for development, not for a network
    of people who do not trust each other.

    Args:
        folder: Where; created. Keys and the token in it are readable by their owner only.
        names: Host names and addresses that the certificate is for.

    Raises:
        CertificatesError: The folder does not take the files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Issued(folder, tuple(_issue(folder, names)))
    except OSError as error:
        raise CertificatesError(f"{folder}: {error.strerror or error}") from error


def _issue(folder: Path, names: Sequence[str]) -> list[str]:
    made = []
    if not (folder / AUTHORITY).exists() or not (folder / _AUTHORITY_KEY).exists():
        key, certificate = _authority()
        _write(folder / _AUTHORITY_KEY, _key_bytes(key), secret=True)
        _write(folder / AUTHORITY, _pem(certificate))
        made += [AUTHORITY, _AUTHORITY_KEY]
    if made or not _is_good(folder, names):
        key, certificate = _leaf(folder, names)
        _write(folder / KEY, _key_bytes(key), secret=True)
        _write(folder / CERTIFICATE, _pem(certificate))
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


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = _new_key()
    name = _name("ldcq development authority")
    builder = _builder(name, name, key, _AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def _leaf(
    folder: Path, names: Sequence[str]
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
    signer = serialization.load_pem_private_key((folder / _AUTHORITY_KEY).read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = _new_key()
    builder = _builder(_name("ldcq"), authority.subject, key, _DAYS)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.SubjectAlternativeName([_general(name) for name in names]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical)
    return key, builder.sign(signer, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _is_good(folder: Path, names: Sequence[str]) -> bool:
    """Whether the certificate is there, for these names, and not about to expire."""
    if not (folder / KEY).exists():
        return False
    try:
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ends = certificate.not_valid_after_utc
    return {_general(name) for name in names} <= set(found) and (
        ends > datetime.now(UTC) + timedelta(days=_RENEW_DAYS)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes, secret: bool = False) -> None:
    """Replaces a file; a secret was never readable by others."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    mode = 0o600 if secret else 0o644
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
