"""The same store twice: in a folder, and in a bucket of a real server of S3's protocol."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer

from common.store import Store

BUCKET = "ldcq"
NewUrl = Callable[[], str]


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server with a bucket, where the environment says; its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield address
    server.stop()


@pytest.fixture
def new_s3(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewUrl:
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
