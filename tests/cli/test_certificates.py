"""`ldcq certificates`: what it makes is good for TLS, secret where it has to be, and kept."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import DNSName, IPAddress, SubjectAlternativeName

from cli import certificates
from cli.certificates import CertificatesError, issue
from common.rpc.security import Security


def names_in(folder: Path) -> SubjectAlternativeName:
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    return certificate.extensions.get_extension_for_class(SubjectAlternativeName).value


def test_the_command_prints_the_environment_that_uses_what_it_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "certificates", str(tmp_path / "tls")]
    done = subprocess.run(
        [*command, "--name", "prior.example.org"], capture_output=True, text=True, check=True
    )
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines())
    security = Security.from_environment(environment)
    assert str(security) == "mTLS, token"
    token = (tmp_path / "tls" / "token").read_text().strip()
    assert token not in done.stdout + done.stderr
    names = names_in(tmp_path / "tls")
    assert {"prior.example.org", "localhost", "actor"} <= set(names.get_values_for_type(DNSName))
    assert ipaddress.ip_address("127.0.0.1") in names.get_values_for_type(IPAddress)


def test_secrets_are_the_owners_alone(tmp_path: Path) -> None:
    issue(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {
        "ca.pem": 0o644,
        "certificate.pem": 0o644,
        "ca-key.pem": 0o600,
        "key.pem": 0o600,
        "token": 0o600,
    }


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    issue(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert issue(tmp_path) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_further_name_makes_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    issue(tmp_path)
    authority, token = ((tmp_path / name).read_bytes() for name in ("ca.pem", "token"))
    assert issue(tmp_path, ["elsewhere"]) == ["certificate.pem", "key.pem"]
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert (tmp_path / "token").read_bytes() == token
    assert names_in(tmp_path).get_values_for_type(DNSName) == ["elsewhere"]


def test_a_certificate_is_renewed_before_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_DAYS", 29)
    issue(tmp_path)
    monkeypatch.undo()
    assert issue(tmp_path) == ["certificate.pem", "key.pem"]
    certificate = x509.load_pem_x509_certificate((tmp_path / "certificate.pem").read_bytes())
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CertificatesError, match="file/tls: Not a directory"):
        issue(tmp_path / "file" / "tls")


def test_a_name_that_no_certificate_can_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificatesError, match=r"names localhost, a\.\.b: Empty Label"):
        issue(tmp_path, ["localhost", "a..b"])
