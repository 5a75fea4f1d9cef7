"""The denoiser's weights with less left to compute: what the CPU's and the GPU's kernel both read.

Beyond what `split` takes out of the loop:

- LayerNorm's mean: the layers before it are centred over their outputs, once;
- where a block is wider than its input and joined by no skip, W (R x + r) = (W R) x + W r, so the
  block's first layer is a product with the narrow input;
- the last LayerNorm's gain and bias are part of the last layer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldcq.diffusion.denoiser import Denoiser, ResidualBlock, time_embedding
from ldcq.diffusion.fast.split import Condition, Nulled, encode


@dataclass(frozen=True)
class FoldedBlock:
    """One residual block, in double precision: products of weights are rounded once.

    Attributes:
        width: Of the block.
        inputs: Width of what comes in, where `resize` changes it; 0: there is no such layer.
        skip: The earlier block whose output is added to the input; None: there is none.
        folded: Whether `first` takes what comes in before `resize`.
        resize, resize_bias: (width, inputs) and (width,); None without such a layer.
        first: W of the latent, centred, (width, width or inputs). Its bias is the condition's.
        second, second_bias: Centred, (width, width) and (width,).
        norm_gain, norm_bias: Of the second LayerNorm, (width,).
        gain, bias: FiLM and the first LayerNorm in one, a row for each t, (T, width).
    """

    width: int
    inputs: int
    skip: int | None
    folded: bool
    resize: Tensor | None
    resize_bias: Tensor | None
    first: Tensor
    second: Tensor
    second_bias: Tensor
    norm_gain: Tensor
    norm_bias: Tensor
    gain: Tensor
    bias: Tensor


class FoldedDenoiser:
    """A trained denoiser, its weights copied and folded.

    Args:
        denoiser: The trained network.
        training_steps: T, the rows of the time table.

    Attributes:
        latent: Z.
        blocks: From the first to the last.
        last, last_bias: (Z, width) and (Z,); what is left of the last LayerNorm has neither gain
            nor bias.
    """

    @torch.inference_mode()
    def __init__(self, denoiser: Denoiser, training_steps: int) -> None:
        self._encoders = copy.deepcopy((denoiser.encode_state, denoiser.encode_goal))
        device = denoiser.last.weight.device
        denoiser = copy.deepcopy(denoiser).double()
        times = torch.arange(1, training_steps + 1, device=device)
        encoded_time = denoiser.encode_time(time_embedding(times, denoiser.time_dim).double())
        self.latent = denoiser.last.out_features
        self.blocks: list[FoldedBlock] = []
        self._conditions: list[tuple[Tensor, Tensor]] = []
        for resize, block, skip in zip(
            denoiser.resize, denoiser.blocks, denoiser.skips, strict=True
        ):
            assert isinstance(block, ResidualBlock)
            folded, condition = _fold(resize, block, skip, encoded_time)
            self.blocks.append(folded)
            self._conditions.append(condition)
        norm = denoiser.last_norm
        self.last = denoiser.last.weight * norm.weight
        self.last_bias = denoiser.last.bias + denoiser.last.weight @ norm.bias

    def condition_layer(self, widths: Sequence[int]) -> ConditionLayer:
        """W_s s + W_g g + b of all blocks side by side.

        Args:
            widths: Each block's part is filled up with zeros to its width here.
        """
        parts = [
            (filled(weight, width), filled(bias, width))
            for (weight, bias), width in zip(self._conditions, widths, strict=True)
        ]
        weight, bias = (torch.cat(same).float() for same in zip(*parts, strict=True))
        return ConditionLayer(self._encoders, weight.T.contiguous(), bias)


@dataclass(frozen=True)
class ConditionLayer:
    """The encoders of states and goals, and all blocks' part of what they encode.

    Attributes:
        encoders: Of states and, in a network with goals, of goals.
        weight, bias: (condition, features) and (features,).
    """

    encoders: tuple[nn.Module, nn.Module | None]
    weight: Tensor
    bias: Tensor

    def __call__(self, states: Tensor, goals: Tensor | None, nulled: Nulled) -> Condition:
        """(N, features), and again with one of the two nulled, if `nulled` is one of two."""
        encoded = encode(*self.encoders, states, goals, nulled)
        return tuple(torch.addmm(self.bias, one, self.weight) for one in encoded)


def filled(tensor: Tensor, width: int, dim: int = 0) -> Tensor:
    """Zeros behind `tensor`, up to `width` along `dim`."""
    shape = list(tensor.shape)
    shape[dim] = width - shape[dim]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)


def _fold(
    resize: nn.Module, block: ResidualBlock, skip: int | None, time: Tensor
) -> tuple[FoldedBlock, tuple[Tensor, Tensor]]:
    """The block, and its condition's weight (width, condition) and bias (width,)."""
    width = block.second.out_features
    first, state = block.first.weight[:, :width], block.first.weight[:, width:]
    bias: Tensor = block.first.bias
    layer = resize if isinstance(resize, nn.Linear) else None
    folds = layer is not None and skip is None and layer.in_features < width
    if layer is not None and folds:
        bias = bias + first @ layer.bias
        first = first @ layer.weight
    scale, shift = block.film(time).chunk(2, dim=1)
    norm = block.first_norm
    folded = FoldedBlock(
        width=width,
        inputs=0 if layer is None else layer.in_features,
        skip=skip,
        folded=folds,
        resize=None if layer is None else layer.weight,
        resize_bias=None if layer is None else layer.bias,
        first=_centre(first),
        second=_centre(block.second.weight),
        second_bias=_centre(block.second.bias),
        norm_gain=block.second_norm.weight,
        norm_bias=block.second_norm.bias,
        gain=norm.weight * (1 + scale),
        bias=norm.bias * (1 + scale) + shift,
    )
    return folded, (_centre(state), _centre(bias))


def _centre(tensor: Tensor) -> Tensor:
    """What LayerNorm leaves of a layer's weight (outputs, inputs) or bias (outputs,)."""
    return tensor - tensor.mean(dim=0, keepdim=True)
