"""Which methods of an actor have a prior."""

from __future__ import annotations

import pytest

import services.actor.server
from common.rpc.settings import ServiceSettings
from tests.services.actor.conftest import Pipeline


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "ldcq, prior (--prior main=HOST:PORT); bcq_h (--prior bcq_h=HOST:PORT)"),
        (["main"], "bcq_h (--prior bcq_h=HOST:PORT)"),
        (["main", "bcq_h"], ""),
    ],
)
def test_an_actor_says_at_its_start_which_methods_lack_a_prior(
    pipeline: Pipeline,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(services.actor.server, "serve_process", lambda *_: 0)
    targets = {variant: pipeline.targets[variant] for variant in given}
    settings = ServiceSettings(pipeline.config, pipeline.store, prior_targets=targets)
    assert services.actor.server.serve(settings) == 0
    before = "until their prior is given, these cannot act: "
    assert [record.getMessage() for record in caplog.records] == ([before + said] if said else [])
