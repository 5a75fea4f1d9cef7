"""`ldcq bench sampler`: latents per second of the paper's network, against the plain denoiser and
the machine's own matrix product.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plain import plain_sample
from benchmarks.result import BenchmarkResult
from benchmarks.stopwatch import Clock, Device, clock_of
from ldcq.config import SamplingConfig, load
from ldcq.diffusion.fast.card import Precision
from ldcq.diffusion.fast.fastest import fastest_loop
from ldcq.diffusion.fast.kernel import load as compiled_kernel
from ldcq.diffusion.fast.split import SplitDenoiser
from ldcq.diffusion.prior import DiffusionPrior
from ldcq.diffusion.reverse_loop import ReverseLoop, StepwiseLoop
from ldcq.diffusion.sampler import DiffusionSampler
from ldcq.latent_prior import Draw, Samples
from ldcq.nn.inference import threads as torch_threads
from ldcq.nn.model import Dimensions
from ldcq.randomness import block_rows

STATE_DIM = 4
SHAPES = ((1, 500), (128, 100), (128, 500))
GUIDANCE = (1.0, 2.0)
FEW_STEPS = 10
"""With which the middle shape is drawn on a GPU as well: there a call has costs of its own."""
SIZES: dict[Device, tuple[int, ...]] = {"cpu": (256, 512, 1024), "cuda": (2048, 4096, 8192)}
PRECISIONS: dict[Device, tuple[Precision, ...]] = {
    "cpu": ("fp32",),
    "cuda": ("fp32", "tf32", "fp16"),
}
"""Of the matrix products that a device is judged by."""

BUDGET = {"plain": 64_000, "in_blocks": 64_000, "split": 320_000, "ours": 1_600_000}
"""Rows times steps of each sampler per round. Every step takes as long as any other, so the rest of
the T is extrapolated; what is done once per call then weighs too much in ours.
"""


_GEMM: dict[Precision, str] = {"fp32": "sgemm", "tf32": "tf32_gemm", "fp16": "hgemm"}


@dataclass
class _Cell:
    """One row of the table, and the seconds per latent and step that were measured for it."""

    states: int
    candidates: int
    guidance: float
    steps: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def rows(self) -> int:
        return self.states * self.candidates

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


def run(
    *,
    rounds: int = 3,
    threads: int = 1,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    guidance: Sequence[float] = GUIDANCE,
    device: Device = "cpu",
) -> BenchmarkResult:
    """Measures everything in turn, `rounds` times, and compares medians.

    Args:
        rounds: How often everything is measured.
        threads: Of all samplers and of sgemm.
        shapes: Numbers of states and candidates; the last is the summary's.
        guidance: Weights w; the first is the summary's.
        device: `cpu` or `cuda`.

    Raises:
        DeviceError: There is no CUDA device.
    """
    clock = clock_of(device, threads)
    prior = paper_prior().to(device)
    with torch_threads(threads), torch.inference_mode():
        loops = _loops(prior, device)
        steps = prior.options.steps
        cells = [_Cell(*shape, w, steps) for shape in shapes for w in guidance]
        judged = cells[len(guidance) * (len(shapes) - 1)]
        if device == "cuda":
            cells.append(_Cell(*shapes[len(shapes) // 2], guidance[0], FEW_STEPS))
        products: dict[tuple[Precision, int], list[float]] = defaultdict(list)
        for number in range(rounds):
            for cell in cells:
                for name, draw in _samplers(prior, loops, cell).items():
                    steps = cell.steps
                    if device == "cpu":
                        steps = min(max(1, BUDGET[name] // cell.rows), steps)
                    elif not number:
                        draw(steps)  # Compiles its kernel, or captures its graph.
                    seconds = _timed(clock, draw, steps)
                    cell.seconds[name].append(seconds / (steps * cell.rows))
            for product in itertools.product(PRECISIONS[device], SIZES[device]):
                products[product].append(_product(clock, *product, device))
        peaks = {
            precision: max(
                statistics.median(rates) for key, rates in products.items() if key[0] == precision
            )
            for precision in PRECISIONS[device]
        }
        figures = _row(prior, judged, peaks)
        names = [name for name in figures if name.startswith(("ratio", "fraction"))]
        return BenchmarkResult(
            name="sampler",
            summary={
                **{name: figures[name] for name in names},
                **{f"{_GEMM[precision]}_gflops": rate / 1e9 for precision, rate in peaks.items()},
            },
            rows=[_row(prior, cell, peaks) for cell in cells],
            notes=_notes(prior, loops["ours"], threads, device),
        )


def paper_prior(state_dim: int = STATE_DIM) -> DiffusionPrior:
    """The paper's network with random weights, for states of so many dimensions."""
    config = load("paper")
    torch.manual_seed(0)
    dimensions = Dimensions(state=state_dim, latent=config.vae.latent_dim)
    return DiffusionPrior(dimensions, config.prior).requires_grad_(False)


def needed_macs(prior: DiffusionPrior) -> int:
    """Multiplications per latent and denoising step once the parts of state and time are split off:
    W_x of every block's first layer, its second layer, and the layers between blocks.
    """
    denoiser = prior.denoiser
    between = [layer for layer in denoiser.resize if isinstance(layer, nn.Linear)]
    inside = sum(2 * width * width for width in denoiser.widths)
    return inside + sum(layer.weight.numel() for layer in (*between, denoiser.last))


def _samplers(
    prior: DiffusionPrior, loops: dict[str, ReverseLoop], cell: _Cell
) -> dict[str, Callable[[int], object]]:
    """By name, what draws the cell's latents in so many steps."""
    device = prior.latent_normaliser.mean.device
    source = torch.Generator().manual_seed(1)
    states = torch.randn(cell.states, STATE_DIM, generator=source).to(device)
    count = min(cell.rows, block_rows(device))
    block = states.repeat_interleave(cell.candidates, dim=0)[:count]
    pieces = -(-cell.rows // count)

    def plain(steps: int, states: Tensor = states, candidates: int = cell.candidates) -> Tensor:
        return plain_sample(
            prior,
            states,
            candidates,
            guidance=cell.guidance,
            generator=torch.Generator(device).manual_seed(2),
            stop_after=steps,
        )

    def of(loop: ReverseLoop) -> Callable[[int], Samples]:
        sampler = DiffusionSampler(
            loop,
            prior.options.steps,
            prior.config.sampling,
            prior.state_normaliser,
            prior.latent_normaliser,
        )
        options = SamplingConfig(
            solver="ddpm", guidance=cell.guidance, extra_steps=0, temperature=1.0
        )
        arrays = states.cpu().numpy()
        return lambda steps: sampler.sample(
            Draw(arrays, cell.candidates, options.model_copy(update={"steps": steps}), seed=2)
        )

    return {
        "plain": plain,
        "in_blocks": lambda steps: [plain(steps, block, 1) for _ in range(pieces)],
        **{name: of(loop) for name, loop in loops.items()},
    }


def _loops(prior: DiffusionPrior, device: Device) -> dict[str, ReverseLoop]:
    """`ours` is what a service runs, `split` eager PyTorch, on a GPU `graph` the same captured."""
    denoiser, clip = prior.denoiser, prior.options.clip_sample
    split = SplitDenoiser(denoiser, prior.options.steps)

    def stepwise(capture: bool) -> StepwiseLoop:
        latent_dim = denoiser.last.out_features
        return StepwiseLoop(
            split, prior.alpha_bar, latent_dim, torch.device(device), clip, capture=capture
        )

    loops = {"ours": fastest_loop(denoiser, prior.alpha_bar, clip), "split": stepwise(False)}
    return loops | ({"graph": stepwise(True)} if device == "cuda" else {})


def _row(prior: DiffusionPrior, cell: _Cell, peaks: Mapping[Precision, float]) -> dict[str, Any]:
    ours, passes = cell.median("ours"), 1 if cell.guidance in (0, 1) else 2
    flops = 2 * needed_macs(prior) * passes / ours
    return {
        "shape": f"{cell.states}x{cell.candidates}",
        "w": cell.guidance,
        "steps": cell.steps,
        "latents_per_s": round(1 / (ours * cell.steps)),
        "latent_steps_per_s": round(1 / ours),
        "gflops": flops / 1e9,
        "ratio_to_plain": cell.median("plain") / ours,
        "ratio_in_blocks": cell.median("in_blocks") / ours,
        "ratio_to_split": cell.median("split") / ours,
        **({"ratio_to_graph": cell.median("graph") / ours} if "graph" in cell.seconds else {}),
        "call_ms": ours * cell.steps * cell.rows * 1e3,
        **{f"fraction_of_{_GEMM[precision]}": flops / peak for precision, peak in peaks.items()},
    }


def _notes(prior: DiffusionPrior, ours: ReverseLoop, threads: int, device: Device) -> list[str]:
    on_gpu = device == "cuda"
    if on_gpu:
        fused = not isinstance(ours, StepwiseLoop)
        how = "one kernel for all steps." if fused else "a captured graph; the log says why."
    else:
        how = "compiled." if compiled_kernel() else "eager as well: no C compiler was found."
    rows = block_rows(torch.device(device))
    return [
        "plain: section A.2.2 in eager PyTorch, all rows at once; in blocks: the same on"
        f" {rows} rows at a time; split: the parts of state and time computed once, eager"
        f" PyTorch; unnamed: what the service runs, {how}",
        f"T = {prior.options.steps}, DDPM"
        + (", of which some steps are measured and the rest extrapolated" if not on_gpu else "")
        + "; GFLOP/s and the fraction of sgemm count"
        f" {needed_macs(prior):,} multiply-adds per latent, step and half of guidance, though"
        " fewer are done where the matrices of two layers are multiplied beforehand.",
        f"{'CPU' if threads == 1 and not on_gpu else 'wall clock'} time of {threads} thread(s),"
        f" medians of interleaved rounds; products: the best of square ones"
        f" of {SIZES[device]} in {', '.join(PRECISIONS[device])}.",
    ]


def _product(clock: Clock, precision: Precision, size: int, device: Device) -> float:
    """FLOP/s of a square matrix product."""
    dtype = torch.float16 if precision == "fp16" else torch.float32
    left, right, out = (torch.randn(size, size, device=device).to(dtype) for _ in range(3))
    repeats = max(1, 2 * 1024**3 // size**3)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        multiply(1)
        return 2 * size**3 * repeats / _timed(clock, multiply, repeats)
    finally:
        torch.set_float32_matmul_precision(before)


def _timed(clock: Clock, work: Callable[[int], object], amount: int) -> float:
    start = clock()
    work(amount)
    return clock() - start
