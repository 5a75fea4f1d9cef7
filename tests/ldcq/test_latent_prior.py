"""What everything else sees of a prior."""

from __future__ import annotations

import numpy as np
import pytest

from ldcq.config import SamplingConfig
from ldcq.latent_prior import OptionError
from tests.draws import draw, latents
from tests.services.prior.world import STATE, small_config, some_prior

OPTIONS = SamplingConfig(solver="ddim", steps=3, guidance=1.5)


def test_a_prior_without_solvers_takes_the_options_that_its_defaults_name() -> None:
    diffusion, gaussian = (
        some_prior(small_config(name)).sampler().describe() for name in ("diffusion", "gaussian")
    )
    assert diffusion.taken(OPTIONS) == OPTIONS
    assert gaussian.taken(OPTIONS) == SamplingConfig()
    narrow = SamplingConfig(solver="ddim", steps=3, temperature=0.5)
    assert diffusion.taken(narrow) == narrow
    assert gaussian.taken(narrow) == SamplingConfig(temperature=0.5)
    assert diffusion.taken(SamplingConfig()) == gaussian.taken(SamplingConfig()) == SamplingConfig()


def test_priors_are_swapped_under_one_configuration() -> None:
    """As over gRPC: a Gaussian prior in this process is not asked for denoising steps."""
    sampler, states = some_prior(small_config("gaussian")).sampler(), np.ones((2, STATE))
    plain = latents(sampler, states, 3)
    assert (latents(sampler, states, 3, OPTIONS) == plain).all()


def test_a_draw_counts_its_rows() -> None:
    assert draw(np.ones((4, STATE)), 25).rows == 100


@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
def test_a_later_answer_is_that_of_now(implementation: str) -> None:
    sampler = some_prior(small_config(implementation)).sampler()
    asked = draw(np.ones((2, STATE)), 3, seed=5)
    later = sampler.sample_async(asked).result(timeout=0)
    np.testing.assert_array_equal(later.latents, sampler.sample(asked).latents)
    assert later.latents.dtype == np.float32
    assert later.compute_seconds > 0
    assert later.model_version == ""


def test_a_refusal_names_field_value_and_what_is_taken_now_and_later() -> None:
    sampler = some_prior(small_config()).sampler()
    asked = draw(np.ones((2, STATE)), 3, options=SamplingConfig(steps=21))
    with pytest.raises(OptionError) as caught:
        sampler.sample(asked)
    now = caught.value
    assert (now.field, now.given) == ("steps", 21)
    assert str(now) == f"steps is 21, expected {now.expected}"
    later = sampler.sample_async(asked).exception(timeout=0)
    assert isinstance(later, OptionError)
    assert str(later) == str(now)
