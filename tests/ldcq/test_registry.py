"""Implementations are found by name, and a wrong one is refused with a message."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from ldcq import registry
from ldcq.diffusion.prior import DiffusionPrior
from ldcq.gaussian import GaussianPrior
from ldcq.registry import UnknownPriorError, find_prior, registered


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
        ("collections:OrderedDict", "is no prior: expected a subclass of ldcq.prior"),
    ],
)
def test_broken_plugin_says_what_is_wrong(
    value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint(name="third", value=value, group=registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: (point,))
    with pytest.raises(UnknownPriorError, match=message):
        find_prior("third")
