"""The whole pipeline with its store on S3, and TLS, client certificates and a token throughout."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cli.certificates import environment, issue
from common.store import Store
from tests.command import REPORT, TINY, ldcq
from tests.s3_server import BUCKET, s3_server

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


def test_a_run_on_s3_between_processes_that_trust_each_other_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(tmp_path / "tls")
    with s3_server() as s3:
        for name, value in {**s3, **environment(tmp_path / "tls")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path / "scratch"))
        url = f"s3://{BUCKET}/tiny"
        result = json.loads(ldcq("run", str(TINY), "--store", url, "--json", *REPORT).stdout)
        assert [row["method"] for row in result["rows"]] == ["ldcq", "bcq_h", "prior", "behaviour"]

        store = Store(url)
        assert store.versions("latents") == [store.current("latents")]
        assert len(store.versions("candidates")) == 1
        assert len(store.pointers("critic")) == 2
        assert not store.place.names("")
        local = {path.name for path in store.root.iterdir()}
        assert {"checkpoints", "datasets", "logs", "report.html", "run"} <= local
        assert not local & {"artifacts", "latents", "candidates"}
        logs = "".join(path.read_text() for path in (store.root / "run").glob("*.log"))
        assert re.search(r"listening on .* \(mTLS, token\)", logs)
        assert (tmp_path / "tls" / "token").read_text().strip() not in logs
        assert "secret" not in logs

        again = ldcq("run", str(TINY), "--store", url).stdout
        assert "Nothing was trained" in again
        status = json.loads(ldcq("status", "--store", url, "--json").stdout)
        assert len(status["artifacts"]) > 5
