"""`split` in compiled code: all layers of a few rows at a time, which never leave the cache.

Beyond what `split` takes out of the loop, weights are prepared so that less is left to compute:

- LayerNorm's mean: the layers before it are centred over their outputs, once;
- where a block is wider than its input and joined by no skip, W (R x + r) = (W R) x + W r, so the
  block's first layer is a product with the narrow input;
- the last LayerNorm's gain and bias are part of the last layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, byref

import torch
from torch import Tensor, nn

from ldcq.diffusion.denoiser import Denoiser, ResidualBlock, time_embedding
from ldcq.diffusion.fast.kernel import GROUP, TILE, Block, Network, load
from ldcq.diffusion.fast.split import Condition, FrozenDenoiser, Nulled, SplitDenoiser, encode

_Compute = Callable[[int, int], int]


def freeze(denoiser: Denoiser, training_steps: int) -> FrozenDenoiser:
    """The denoiser as it is sampled: compiled where that is possible, in plain PyTorch elsewhere.

    Args:
        denoiser: The trained network; its weights are copied.
        training_steps: T, the rows of the time table.
    """
    library = load() if denoiser.last.weight.device.type == "cpu" else None
    if library is None:
        return SplitDenoiser(denoiser, training_steps)
    return FusedDenoiser(denoiser, training_steps, library)


class FusedDenoiser:
    """`Denoiser` with frozen weights on the CPU, equal to it up to rounding.

    A row's result does not depend on its neighbours, its place or the number of threads, to the
    last bit.

    Args:
        denoiser: The trained network; its weights are copied.
        training_steps: T, the rows of the time table.
        library: `kernel.load()`.
    """

    @torch.inference_mode()
    def __init__(self, denoiser: Denoiser, training_steps: int, library: CDLL) -> None:
        self._encoders = copy.deepcopy((denoiser.encode_state, denoiser.encode_goal))
        # In double precision: products of weights are rounded once.
        denoiser = copy.deepcopy(denoiser).double()
        times = torch.arange(1, training_steps + 1)
        encoded_time = denoiser.encode_time(time_embedding(times, denoiser.time_dim).double())
        weights = _Weights()
        self._weights = weights
        self._denoise = library.ldcq_denoise
        blocks, states, biases = [], [], []
        for resize, block, skip in zip(
            denoiser.resize, denoiser.blocks, denoiser.skips, strict=True
        ):
            assert isinstance(block, ResidualBlock)
            packed, state, bias = _pack_block(weights, resize, block, skip, encoded_time)
            blocks.append(packed)
            states.append(state)
            biases.append(bias)
        self._state = torch.cat(states).T.float().contiguous()
        self._bias = torch.cat(biases).float()
        self._network = _pack_network(weights, denoiser, blocks)
        self._null = self.prepare((self._bias.expand(TILE, -1),))
        self._pool: ThreadPoolExecutor | None = None

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """W_s s + W_g g + b of all blocks, centred, side by side. See `split.FrozenDenoiser`."""
        encoded = encode(*self._encoders, states, goals, nulled)
        return tuple(torch.addmm(self._bias, one, self._state) for one in encoded)

    def prepare(self, condition: Condition) -> Condition:
        """In tiles, (tiles, features, TILE). See `split.FrozenDenoiser`."""
        return tuple(_tiles(rows) for rows in condition)

    def predict(self, latent: Tensor, condition: Condition, time: int, guidance: float) -> Tensor:
        """z0_hat under guidance, (R, Z). See `split.FrozenDenoiser`."""
        latent = latent.contiguous()
        tiles, null = condition[0], (*condition[1:], *self._null)[0]
        count = -(-len(latent) // TILE)
        if len(tiles) != count or latent.shape[1] != self._network.latent:
            raise ValueError(f"{tuple(latent.shape)} latents do not fit {len(tiles)} tiles of rows")
        stride = tiles[0].numel() if count else 0
        null_stride = stride if len(condition) > 1 else 0
        if guidance == 0:
            tiles, stride = null, null_stride
        both = guidance not in (0, 1)
        out = torch.empty_like(latent)

        def compute(first: int, end: int) -> int:
            row, rows = first * TILE, min(end * TILE, len(latent)) - first * TILE
            status: int = self._denoise(
                byref(self._network),
                time - 1,
                latent.data_ptr() + 4 * row * latent.shape[1],
                rows,
                tiles.data_ptr() + 4 * first * stride,
                stride,
                null.data_ptr() + 4 * first * null_stride if both else None,
                null_stride,
                guidance,
                out.data_ptr() + 4 * row * latent.shape[1],
            )
            return status

        if any(self._on_threads(compute, count)):
            raise MemoryError(f"no memory for tiles of {self._network.features} features")
        return out

    def _on_threads(self, compute: _Compute, tiles: int) -> Iterable[int]:
        """Runs `compute` over all tiles on as many threads as torch may use."""
        threads = min(torch.get_num_threads(), tiles)
        if threads <= 1:
            return [compute(0, tiles)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="denoise")
        bounds = [tiles * part // threads for part in range(threads + 1)]
        return list(self._pool.map(compute, bounds[:-1], bounds[1:]))


def _tiles(rows: Tensor) -> Tensor:
    """Rows (R, features) as (tiles, features, TILE), the last tile filled up with zeros."""
    padded = rows.new_zeros(-(-len(rows) // TILE) * TILE, rows.shape[1])
    padded[: len(rows)] = rows
    return padded.view(-1, TILE, rows.shape[1]).transpose(1, 2).contiguous()


class _Weights:
    """Tensors by address, kept alive for the kernel."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def __call__(self, tensor: Tensor) -> int:
        kept = tensor.float().contiguous().clone()
        self._kept.append(kept)
        return kept.data_ptr()

    def matrix(self, weight: Tensor) -> int:
        """A layer's weight (outputs, inputs), as groups of outputs, each (inputs, GROUP)."""
        padded = _pad(weight)
        return self(padded.view(-1, GROUP, padded.shape[1]).transpose(1, 2))


def _pad(tensor: Tensor, dim: int = 0) -> Tensor:
    """Zeros behind `tensor`, up to a multiple of GROUP."""
    shape = list(tensor.shape)
    shape[dim] = -shape[dim] % GROUP
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)


def _centre(tensor: Tensor) -> Tensor:
    """What LayerNorm leaves of a layer's weight (outputs, inputs) or bias (outputs,)."""
    return tensor - tensor.mean(dim=0, keepdim=True)


def _pack_block(
    weights: _Weights, resize: nn.Module, block: ResidualBlock, skip: int | None, time: Tensor
) -> tuple[Block, Tensor, Tensor]:
    """The kernel's block, and its condition's matrix (padded, condition) and bias (padded,)."""
    width = block.second.out_features
    first, state = block.first.weight[:, :width], block.first.weight[:, width:]
    bias: Tensor = block.first.bias
    packed = Block(
        width=width, padded=-(-width // GROUP) * GROUP, skip=-1 if skip is None else skip
    )
    if isinstance(resize, nn.Linear):
        packed.inputs = resize.in_features
        packed.resize = weights.matrix(resize.weight)
        packed.resize_bias = weights(_pad(resize.bias))
        if skip is None and resize.in_features < width:
            packed.folded = 1
            bias = bias + first @ resize.bias
            first = first @ resize.weight
    packed.first = weights.matrix(_centre(first))
    packed.second = weights.matrix(_centre(block.second.weight))
    packed.second_bias = weights(_pad(_centre(block.second.bias)))
    packed.norm_gain = weights(_pad(block.second_norm.weight))
    packed.norm_bias = weights(_pad(block.second_norm.bias))
    scale, shift = block.film(time).chunk(2, dim=1)
    norm = block.first_norm
    packed.gain = weights(_pad(norm.weight * (1 + scale), dim=1))
    packed.bias = weights(_pad(norm.bias * (1 + scale) + shift, dim=1))
    return packed, _pad(_centre(state)), _pad(_centre(bias))


def _pack_network(weights: _Weights, denoiser: Denoiser, blocks: list[Block]) -> Network:
    last, norm = denoiser.last, denoiser.last_norm
    padded = [block.padded for block in blocks]
    latent = -(-last.out_features // GROUP) * GROUP
    return Network(
        latent=last.out_features,
        padded=latent,
        blocks=len(blocks),
        features=sum(padded),
        widest=max(latent, *padded),
        block=(Block * len(blocks))(*blocks),
        last=weights.matrix(last.weight * norm.weight),
        last_bias=weights(last.bias + last.weight @ norm.bias),
    )
