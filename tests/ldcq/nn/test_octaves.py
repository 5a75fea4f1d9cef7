"""Sines and cosines against NumPy's, entry by entry."""

from __future__ import annotations

import numpy as np
import torch

from ldcq.nn.octaves import Octaves


def test_every_entry_has_its_own_waves() -> None:
    values = np.random.default_rng(0).standard_normal((5, 3))
    angles = [np.pi * values, 2 * np.pi * values, 4 * np.pi * values]
    expected = np.concatenate([values, *(w(a) for a in angles for w in (np.sin, np.cos))], axis=1)
    octaves = Octaves(3)
    found = octaves(torch.from_numpy(values))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert found.shape[1] == octaves.width(3)


def test_without_octaves_inputs_stay_as_they_are() -> None:
    values = torch.randn(2, 4)
    assert torch.equal(Octaves(0)(values), values)
    assert Octaves(0).width(4) == 4
