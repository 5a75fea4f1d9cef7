"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from ldcq.nn.octaves import Octaves


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    layer_norm: bool = False,
    octaves: int = 0,
) -> nn.Sequential:
    """Linear layers with an activation between them; the last layer is linear.

    Args:
        sizes: Widths from input to output, at least two.
        activation: Makes the activation that follows every layer but the last.
        layer_norm: Put a LayerNorm before every activation, as the Q-networks have (A.2.3).
        octaves: How many of the input's `Octaves` the first layer sees beside it.

    Raises:
        ValueError: Fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(
            f"sizes: got {list(sizes)}, expected at least an input and an output width"
        )
    waves = Octaves(octaves)
    layers: list[nn.Module] = [waves] if octaves else []
    for index, (before, after) in enumerate(pairwise([waves.width(sizes[0]), *sizes[1:]])):
        layers.append(nn.Linear(before, after))
        if index < len(sizes) - 2:
            layers += [nn.LayerNorm(after)] if layer_norm else []
            layers.append(activation())
    return nn.Sequential(*layers)
