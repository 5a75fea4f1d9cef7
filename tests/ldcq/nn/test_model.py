"""A model comes back from its dimensions, its section and its weights, and from nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ldcq.config.section import Positive, Section
from ldcq.nn.model import Dimensions, Model


class WideConfig(Section):
    width: Positive = 2


class Wide(Model):
    Settings = WideConfig
    config: WideConfig
    high: torch.Tensor

    def __init__(self, dimensions: Dimensions, config: WideConfig) -> None:
        super().__init__(dimensions, config)
        self.linear = nn.Linear(dimensions.state, config.width)
        self.register_buffer("high", torch.full((2,), torch.inf))


def parts() -> dict[str, Any]:
    tensors = {
        "linear.weight": np.full((2, 3), 0.5, np.float32),
        "linear.bias": np.arange(2, dtype=np.float32),
        "high": np.array([1.0, np.inf], np.float32),
    }
    return {"dimensions": {"state": 3}, "config": {"width": 2}, "tensors": tensors}


def test_a_model_is_rebuilt_frozen_with_a_copy_of_its_weights() -> None:
    given = parts()
    for array in given["tensors"].values():
        array.setflags(write=False)
    model = Wide.rebuild(**given)
    assert (model.dimensions, model.config) == (Dimensions(state=3), WideConfig())
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.high.tolist() == [1.0, np.inf]
    with torch.no_grad():
        model.linear.bias.add_(1)
    assert model.linear.bias.tolist() == [1.0, 2.0]
    assert given["tensors"]["linear.bias"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("tensors", {"linear.bias": np.zeros(3)}, r"weights \['linear.bias'\] do not fit"),
        ("tensors", {"extra": np.zeros(1)}, r"weights \['extra'\] do not fit"),
        ("tensors", {"high": None}, r"weights \['high'\] do not fit"),
        ("config", {"widht": 2}, "widht: unknown key; did you mean 'width'"),
        ("config", {"width": 0}, "width: got 0"),
        ("dimensions", {"stat": 2}, "stat: unknown key"),
        ("dimensions", {"state": -1}, "state: got -1"),
    ],
)
def test_what_does_not_fit_is_named(part: str, change: dict[str, Any], message: str) -> None:
    given = parts()
    changed = {**given[part], **change}
    given[part] = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(ValueError, match=f"Wide cannot be rebuilt: {message}"):
        Wide.rebuild(**given)
