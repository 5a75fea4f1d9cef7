"""Where an actor draws its latents: from services, or in its own process."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import services.actor.server
import services.actor.train
import services.qlearner.train
from common.rpc.settings import IN_PROCESS, ServiceSettings
from common.store import MissingArtifactError, Store
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Draw
from services.actor.priors import Priors
from services.actor.train import STAGE
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


def test_a_pipeline_without_prior_services_gets_the_same_critics_and_the_same_scores(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    made = (STAGE, "critic")
    root = tmp_path / "store"
    shutil.copytree(pipeline.store.root, root, ignore=shutil.ignore_patterns(*made))
    here = dict.fromkeys(pipeline.targets, IN_PROCESS)
    alone = Pipeline(pipeline.config, Store(root), here)
    for variant in here:
        services.qlearner.train.run(alone.context(variant=variant))
    services.actor.train.run(alone.context())
    services.actor.train.run(pipeline.context())
    for kind in made:  # versions are those of their content
        version = pipeline.store.current(kind)
        assert version is not None
        assert alone.store.current(kind) == version


def test_draws_of_several_threads_take_turns_and_a_new_version_is_loaded(
    pipeline: Pipeline,
) -> None:
    here = dict.fromkeys(pipeline.targets, IN_PROCESS)
    version = pipeline.store.current("prior") or ""
    states = np.random.default_rng(0).standard_normal((3, 4), np.float32)
    draws = [Draw(states, 5, SamplingConfig(), seed) for seed in range(8)]
    with Priors(pipeline.config, here, pipeline.store) as priors:
        prior = priors.prior("main", version)
        assert priors.prior("main", version) is prior
        with pytest.raises(MissingArtifactError):
            priors.prior("main", "0123456789abcdef")
        with ThreadPoolExecutor(4) as pool:
            drawn = [samples.latents for samples in pool.map(prior.sample, draws)]
    with Priors(pipeline.config, pipeline.targets, pipeline.store) as priors:
        served = priors.prior("main", version)
        for draw, latents in zip(draws, drawn, strict=True):
            np.testing.assert_array_equal(latents, served.sample(draw).latents)
