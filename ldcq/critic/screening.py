"""The maximum of Eq. 8 on a CPU, for a fraction of the work of looking at every candidate twice."""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldcq.critic.q_network import QNetwork

ROWS_AT_ONCE = 1024
"""State-latent pairs evaluated at once: the activations then stay in the cache."""

FIRST_LOOK = 2
"""Candidates of a state, the best by the first network, that set the bound."""

WIDE = 128
"""Outputs of a layer from which half precision pays for the conversion."""


def screened_max(first: QNetwork, second: QNetwork, states: Tensor, latents: Tensor) -> Tensor:
    """max_z min_j Q_j(s, z) over each state's candidates.

    A candidate whose Q_1 is below some candidate's min_j Q_j cannot be the best, whatever its
    Q_2: the second network sees the others only. Where both networks learn the same values
    these are a tenth of the candidates. With bfloat16 products, wide layers choose the candidate
    in that precision (candidates closer than its rounding may change places); its value is always
    that of float32.

    Args:
        first: Q_1, of one output, on the CPU.
        second: Q_2.
        states: Normalised states, (N, S).
        latents: Normalised latents, (N, n, Z).

    Returns:
        Values, (N,).
    """
    most = max(1, ROWS_AT_ONCE // max(1, latents.shape[1]))
    blocks = [slice(start, start + most) for start in range(0, len(states), most)]
    part = first.state_part(states).unsqueeze(1)
    upper = torch.cat([_screen(first, part[block], latents[block]) for block in blocks])
    part = second.state_part(states)
    top = upper.topk(min(FIRST_LOOK, upper.shape[1]), dim=1)
    looked = latents.take_along_dim(top.indices.unsqueeze(-1), dim=1)
    values = torch.minimum(top.values, _screen(second, part.unsqueeze(1), looked))
    smaller = torch.full_like(upper, -torch.inf).scatter_(1, top.indices, values)
    left = (upper > values.amax(dim=1, keepdim=True)).nonzero()
    for start in range(0, len(left), ROWS_AT_ONCE):
        pairs = left[start : start + ROWS_AT_ONCE].unbind(1)
        values = _screen(second, part[pairs[0]], latents[pairs])
        smaller[pairs] = torch.minimum(upper[pairs], values)
    chosen = smaller.argmax(dim=1).view(-1, 1, 1)
    best = latents.take_along_dim(chosen, dim=1).squeeze(1)
    return torch.minimum(first(states, best), second(states, best)).squeeze(-1)


def _screen(network: QNetwork, state_part: Tensor, latents: Tensor) -> Tensor:
    """`from_state_part` to choose by: wide products in bfloat16 where the CPU has them."""
    if not _has_half_products():
        return network.from_state_part(state_part, latents).squeeze(-1)
    weight = network.first.weight[:, network.state_width :]
    features = state_part + functional.linear(latents, weight)
    for norm, layer in zip(network.norms, network.layers, strict=True):
        features = functional.gelu(norm(features))
        linear = cast(nn.Linear, layer)
        if linear.out_features < WIDE:
            features = linear(features)
        else:
            product = functional.linear(features.bfloat16(), linear.weight.bfloat16())
            features = product.float().add_(linear.bias)
    return features.squeeze(-1)


@cache
def _has_half_products() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
