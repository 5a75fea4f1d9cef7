"""The same store twice: in a folder, and in a bucket of a real server of S3's protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from common.store import Store
from tests.s3_server import BUCKET, s3_server

NewUrl = Callable[[], str]


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """An S3 server, which the environment names."""
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def new_s3(s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewUrl:
    """Makes URLs of empty stores on S3; what they have on this machine goes with the test."""
    assert s3
    monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "scratch"))
    return lambda: f"s3://{BUCKET}/{uuid4().hex}/runs"


@pytest.fixture(params=["folder", "s3"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> NewUrl:
    """Makes URLs of empty stores, of either kind."""
    if request.param == "folder":
        return lambda: str(tmp_path / uuid4().hex)
    on_s3: NewUrl = request.getfixturevalue("new_s3")
    return on_s3


@pytest.fixture
def store(new_url: NewUrl) -> Store:
    """An empty store, of either kind."""
    return Store(new_url())
