"""A denoiser as the GPU's kernel reads it: `folded`, filled up for tensor cores, laid out flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ldcq.diffusion.fast.folded import FoldedBlock, FoldedDenoiser, filled


def card_width(width: int) -> int:
    """What a width is filled up to: a power of two, 16 or more, as tensor cores take it."""
    return max(16, 1 << (width - 1).bit_length())


@dataclass(frozen=True)
class Network:
    """A folded denoiser as `card_kernel` reads it.

    Attributes:
        blocks: Of each block the width of what comes in (0: as wide as the block), its width, its
            true width, the skip's source or -1, whether it is folded, and where its matrices,
            vectors and features begin.
        last: Of the last layer its width, the true one, the latent's, and where its matrix and
            vector begin.
        features: Of all blocks.
        matrices: One after the other, flat.
        vectors: One after the other, flat, fp32.
        tables: Gains, then biases, of all blocks for each t, (T, 2 features).
    """

    blocks: tuple[tuple[int, ...], ...]
    last: tuple[int, ...]
    features: int
    matrices: Tensor
    vectors: Tensor
    tables: Tensor


def pack(folded: FoldedDenoiser, dtype: torch.dtype) -> Network:
    """Lays a denoiser out for the kernel, its matrices in `dtype`."""
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    blocks: list[tuple[int, ...]] = []
    place = 0
    for block in folded.blocks:
        width, inputs = card_width(block.width), card_width(block.inputs) if block.inputs else 0
        skip = -1 if block.skip is None else block.skip
        blocks.append(
            (
                *(inputs, width, block.width, skip, int(block.folded)),
                *(_length(matrices), _length(vectors), place),
            )
        )
        if block.resize is not None:
            matrices.append(_matrix(block.resize))
        matrices += [_matrix(block.first), _matrix(block.second)]
        vectors += [filled(values, width) for values in _vectors(block)]
        place += width
    last = folded.blocks[-1].width
    widths = card_width(last), last, card_width(folded.latent)
    layer = (*widths, _length(matrices), _length(vectors))
    matrices.append(_matrix(folded.last))
    vectors.append(filled(folded.last_bias, card_width(folded.latent)))
    tables = [
        filled(table, card_width(table.shape[1]), dim=1)
        for name in ("gain", "bias")
        for table in (getattr(block, name) for block in folded.blocks)
    ]
    return Network(
        blocks=tuple(blocks),
        last=layer,
        features=place,
        matrices=torch.cat([matrix.flatten() for matrix in matrices]).to(dtype),
        vectors=torch.cat(vectors).float(),
        tables=torch.cat(tables, dim=1).float().contiguous(),
    )


def _vectors(block: FoldedBlock) -> tuple[Tensor, ...]:
    start = torch.zeros_like(block.norm_bias) if block.resize_bias is None else block.resize_bias
    return start, block.second_bias, block.norm_gain, block.norm_bias


def _matrix(weight: Tensor) -> Tensor:
    """A layer's weight (outputs, inputs) as (inputs, outputs), filled up."""
    outputs, inputs = weight.shape
    return filled(filled(weight, card_width(outputs)), card_width(inputs), dim=1).T


def _length(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
