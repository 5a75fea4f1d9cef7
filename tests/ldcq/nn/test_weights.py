"""Weights go into the module they were made for, as a copy, and into no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ldcq.nn.weights import load_weights


def tensors() -> dict[str, np.ndarray]:
    return {"weight": np.full((2, 3), 0.5, np.float32), "bias": np.arange(2, dtype=np.float32)}


def test_weights_are_copied() -> None:
    module, given = nn.Linear(3, 2), tensors()
    for array in given.values():
        array.setflags(write=False)
    load_weights(module, given)
    with torch.no_grad():
        module.bias.add_(1)
    assert module.bias.tolist() == [1.0, 2.0]
    assert given["bias"].tolist() == [0.0, 1.0]
    assert (module.weight == 0.5).all()


@pytest.mark.parametrize(
    "change",
    [{"bias": np.zeros(3, np.float32)}, {"extra": np.zeros(1, np.float32)}, {"bias": None}],
)
def test_weights_of_another_module_are_refused(change: dict[str, np.ndarray | None]) -> None:
    given = {name: array for name, array in {**tensors(), **change}.items() if array is not None}
    with pytest.raises(ValueError, match=rf"weights \['{next(iter(change))}'\] do not fit Linear"):
        load_weights(nn.Linear(3, 2), given)
