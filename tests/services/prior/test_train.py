"""The stage: what it publishes, when it does nothing, and that a killed run ends as an undisturbed
one.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from ldcq.config import Config
from ldcq.data.episodes import DataError
from ldcq.learning.learner import Stopped
from ldcq.prior_learner import PriorLearner, training_statistics
from ldcq.registry import UnknownPriorError
from ldcq.v1 import stage_pb2
from services.prior.model import load_prior
from services.prior.train import run
from tests.services.prior.world import (
    LATENT,
    STATE,
    publish_latents,
    publish_vae,
    small_config,
    two_modes,
)
from tests.stopping import in_turn

CPU = torch.device("cpu")


def _context(store: Store, config: Config, **options: Any) -> StageContext:
    return StageContext(config, store, Progress("prior"), **options)


@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
def test_publishes_an_artifact_that_serves_itself(prepared: Store, implementation: str) -> None:
    """One key of the configuration swaps the implementation, and nothing else is told."""
    context = _context(prepared, small_config(implementation))
    version = run(context)
    assert prepared.current("prior") == version
    artifact = prepared.load("prior", version)
    assert artifact.meta.implementation == implementation
    assert artifact.meta.parents == {
        "vae": prepared.current("vae"),
        "latents": prepared.current("latents"),
    }
    served = load_prior(artifact, CPU).description
    assert (served.state_dim, served.latent_dim) == (STATE, LATENT)
    assert (served.implementation, served.model_version) == (implementation, version)
    assert served.vae_version == prepared.current("vae")
    assert context.progress.snapshot().state == stage_pb2.STAGE_STATE_PUBLISHED
    again = _context(prepared, small_config(implementation))
    assert run(again) == version
    assert again.progress.snapshot().reused


def test_a_variant_has_a_prior_of_its_own_over_the_same_latents(prepared: Store) -> None:
    base = small_config().model_dump()
    base["variants"] = {"bcq_h": {"prior.implementation": "gaussian"}}
    config = Config.model_validate(base)
    main = run(_context(prepared, config))
    variant = run(_context(prepared, config, variant="bcq_h"))
    assert prepared.current("prior") == main != variant == prepared.current("prior", "bcq_h")
    metas = [prepared.meta("prior", version) for version in (main, variant)]
    assert [meta.implementation for meta in metas] == ["diffusion", "gaussian"]
    assert metas[0].parents == metas[1].parents


def test_other_configuration_is_another_prior(prepared: Store) -> None:
    first = run(_context(prepared, small_config()))
    assert run(_context(prepared, small_config(learning_rate=1e-4))) != first


class _StopAt(PriorLearner):
    """Asks the loop to stop before step 3, as SIGTERM would."""

    stop: threading.Event

    def update(self, step: int) -> Any:
        if step == 3:
            self.stop.set()
        return super().update(step)


@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
def test_stopped_and_resumed_run_publishes_the_same_version(
    store: Store, tmp_path: Any, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(implementation, schedule="one_cycle")
    undisturbed = Store(tmp_path / "undisturbed")
    for each in (store, undisturbed):
        publish_latents(each, config, publish_vae(each, config))
    expected = run(_context(undisturbed, config))
    stop = threading.Event()
    with monkeypatch.context() as patch:
        _StopAt.stop = stop
        patch.setattr("services.prior.train.PriorLearner", _StopAt)
        with pytest.raises(Stopped):
            run(_context(store, config, stop=stop))
    assert store.current("prior") is None
    torch.manual_seed(99)
    assert run(_context(store, config)) == expected


def test_waits_for_latents_of_this_vae(prepared: Store) -> None:
    """Latents of the VAE before are refused: they are waited for, and the message says why."""
    config = small_config()
    new_vae = publish_vae(prepared, config, dataset="d2")
    context = _context(prepared, config)
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(run(context)))
    thread.start()
    for update in in_turn(context.progress.updates(timeout=5)):
        if "was made from another vae" in update.message:
            break
    assert not result
    latents = publish_latents(prepared, config, new_vae)
    thread.join(60)
    assert prepared.meta("prior", result[0]).parents == {"vae": new_vae, "latents": latents}


def test_unknown_implementation_fails_before_it_waits(store: Store) -> None:
    with pytest.raises(UnknownPriorError, match="'flow', expected one of diffusion, gaussian"):
        run(_context(store, small_config("flow")))


def test_statistics_are_of_training_samples_of_q() -> None:
    table = two_modes(4000)
    statistics = training_statistics(table)
    rows, random = ~table.validation, np.random.default_rng(0)
    spread = random.standard_normal((200, *table.latent_mean[rows].shape))
    samples = table.latent_mean[rows] + table.latent_std[rows] * spread
    np.testing.assert_allclose(statistics.latent_mean, samples.mean((0, 1)), atol=0.01)
    np.testing.assert_allclose(statistics.latent_std, samples.std((0, 1)), rtol=0.01)
    np.testing.assert_allclose(statistics.state_mean, table.state[rows].mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.state_std, table.state[rows].std(0), rtol=1e-5)


def test_average_is_published_and_not_the_last_weights() -> None:
    learner = PriorLearner(small_config(ema_decay=0.9), two_modes(600), CPU)
    for step in range(5):
        learner.update(step)
    pairs = zip(learner.published.parameters(), learner._prior.parameters(), strict=True)
    assert any(not torch.equal(average, last) for average, last in pairs)


def test_no_training_windows_is_an_error() -> None:
    table = two_modes(20)
    table.validation[:] = True
    with pytest.raises(DataError, match="got 20 windows, none of them for training"):
        PriorLearner(small_config(), table, CPU)
