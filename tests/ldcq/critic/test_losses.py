"""The critic's loss against a plain loop."""

from __future__ import annotations

import pytest
import torch


def test_loss_is_the_weighted_mean_of_both_squared_errors() -> None:
    values, targets, weights = torch.randn(2, 6), torch.randn(6), torch.rand(6)
    expected = sum(
        float(weights[i]) * sum((float(values[j, i]) - float(targets[i])) ** 2 for j in range(2))
        for i in range(6)
    )
    assert float(weighted_td_loss(values, targets, weights)) == pytest.approx(
        expected / 6, rel=1e-5
    )


def test_weights_act_on_single_samples() -> None:
    values = torch.zeros(2, 4, requires_grad=True)
    targets = torch.ones(4)
    weights = torch.tensor([1.0, 0.5, 0.25, 0.0])
    weighted_td_loss(values, targets, weights).backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    # d/dQ of w (Q - 1)^2 / 4 at Q = 0: every sample's gradient carries its own weight.
    torch.testing.assert_close(values.grad, (-2 * weights / 4).expand(2, 4))


@pytest.mark.parametrize(
    "shapes", [((2, 4), (4, 1), (4,)), ((2, 4), (4,), (4, 1)), ((4,), (4,), (4,))]
)
def test_shapes_that_would_broadcast_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        weighted_td_loss(*(torch.zeros(shape) for shape in shapes))
