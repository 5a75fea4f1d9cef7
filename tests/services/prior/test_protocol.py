"""Implementations are found by name, and a wrong one is refused with a message."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import torch

from services.prior import protocol
from services.prior.diffusion import DiffusionPrior
from services.prior.gaussian import GaussianPrior
from services.prior.protocol import UnknownPriorError, find_prior, registered
from services.prior.randomness import block_generator


def test_both_priors_are_registered() -> None:
    assert find_prior("diffusion") is DiffusionPrior
    assert find_prior("gaussian") is GaussianPrior
    assert {"diffusion", "gaussian"} <= set(registered())


def test_unknown_name_lists_those_registered() -> None:
    with pytest.raises(UnknownPriorError, match=r"'flow', expected one of diffusion, gaussian"):
        find_prior("flow")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no.such.module:Prior", "cannot be loaded: No module named"),
        ("collections:OrderedDict", "is no prior: expected a subclass of services.prior.protocol"),
    ],
)
def test_broken_plugin_says_what_is_wrong(
    value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint(name="third", value=value, group=protocol.ENTRY_POINT_GROUP)
    monkeypatch.setattr(protocol, "entry_points", lambda **_: (point,))
    with pytest.raises(UnknownPriorError, match=message):
        find_prior("third")


def test_seeds_that_differ_in_any_bit_or_block_draw_other_noise() -> None:
    def noise(seed: int, block: int = 0) -> torch.Tensor:
        return torch.randn(8, generator=block_generator(seed, block, torch.device("cpu")))

    assert torch.equal(noise(7), noise(7))
    others = [noise(7, 1), noise(7 + 2**32), noise(7 + 2**63), noise(2**64 - 1)]
    assert not any(torch.equal(noise(7), other) for other in others)
