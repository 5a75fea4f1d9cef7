"""What a prior alone has to choose: checked by its own class, before anything is waited for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from common.models import model_of, parts_of
from common.rpc.stage import Progress
from common.store import Artifact, Store
from common.training.context import StageContext
from ldcq.config import Config, ConfigError, override
from ldcq.diffusion.options import DiffusionOptions
from ldcq.gaussian import GaussianOptions, GaussianPrior
from services.prior.train import run
from tests.services.prior.world import small_config, some_prior


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prior.options.diffusion.step": 5},
            "prior.options.diffusion.step: unknown key; did you mean 'steps'? allowed here: blocks",
        ),
        ({"prior.options.diffusion.steps": 1}, "prior.options.diffusion.steps: got 1; "),
        (
            {"prior.options.diffusion.schedule": "sine"},
            "prior.options.diffusion.schedule: got 'sine'; Input should be 'linear' or 'cosine'",
        ),
        (
            {"prior.implementation": "gaussian", "prior.options.gaussian.hidden": []},
            "prior.options.gaussian.hidden: got []; ",
        ),
        *(
            (
                {f"{section}.sampling.steps": 21},
                f"{section}.sampling.steps is 21, expected 1 to 20, the steps of training",
            )
            for section in ("prior", "critic", "actor")
        ),
        (
            {"variants": {"quick": {"actor.sampling.steps": 22}}},
            "actor.sampling.steps is 22, expected 1 to 20, the steps of training",
        ),
    ],
)
def test_what_an_implementation_cannot_do_is_refused_before_it_waits(
    store: Store, changes: dict[str, Any], message: str
) -> None:
    config = override(small_config(), changes)
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(StageContext(config, store, Progress("prior")))


def test_a_variant_with_a_prior_of_its_own_is_not_measured_by_another() -> None:
    longer = {"actor.sampling.steps": 30, "prior.options.diffusion.steps": 40}
    config = override(small_config(), {"variants": {"longer": longer}})
    type(some_prior(small_config())).check(config)


def test_nothing_given_is_the_implementations_defaults() -> None:
    config = Config()
    assert config.prior.options == {}
    assert DiffusionOptions.of(config.prior) == DiffusionOptions()


def test_a_published_prior_spells_out_its_own_options_and_no_others() -> None:
    prior = some_prior(small_config("gaussian"))
    meta, tensors = parts_of(prior)
    own = GaussianOptions(hidden=(64, 64)).model_dump(mode="json")
    assert meta.details["options"] == {"gaussian": own}
    again = model_of(Artifact("p", meta, tensors), GaussianPrior)
    assert (again.options, again.config) == (prior.options, prior.config)
