"""The captured loop: what it keeps and reads; a stand-in for the graph where there is no GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ldcq.config import SamplingConfig
from ldcq.diffusion.fast import graphs
from ldcq.diffusion.fast.graphs import LoopGraphs
from ldcq.diffusion.fast.split import Condition, SplitDenoiser
from ldcq.diffusion.prior import DiffusionPrior
from ldcq.diffusion.reverse_loop import Rows, StepwiseLoop
from ldcq.diffusion.sampling_options import resolve_options
from ldcq.randomness import BlockNoise, noise_source, padded_rows
from tests.services.prior.world import STATE, small_config, some_prior

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DRAWS = {"a": 2, "b": 3}


def _noise(rows: int, seed: int) -> BlockNoise:
    return BlockNoise([noise_source(seed, 0, rows, CPU)], 2, CPU)


def _loop(condition: Condition, draw: Callable[[], Tensor], options: str) -> Tensor:
    latent = condition[0].clone()
    for _ in range(DRAWS[options]):
        latent = 2 * latent + draw()
    return latent


@dataclass
class _Replayed:
    """Computes anew from the tensors it was captured over, as a graph does."""

    work: Callable[[], Tensor]
    out: Tensor

    def replay(self) -> None:
        self.out.copy_(self.work())


class _Recorded(LoopGraphs[str]):
    """Captures without a GPU."""

    captures = 0

    def _capture(self, condition: Condition, noise: BlockNoise, options: str) -> graphs._Captured:
        self.captures += 1
        own = tuple(part.clone() for part in condition)
        buffer = noise.buffer(self._draws(options))
        out = torch.empty_like(own[0])
        graph = _Replayed(lambda: self._loop(own, iter(buffer).__next__, options), out)
        return graphs._Captured(graph, own, buffer, out)  # type: ignore[arg-type]


def test_a_graph_is_captured_once_and_reads_what_it_is_given() -> None:
    loop = _Recorded(_loop, DRAWS.__getitem__)
    kept = []
    for seed, options in enumerate("aaba"):
        condition = (torch.full((64, 2), float(seed)),)
        kept.append(loop(condition, _noise(50, seed), options))
        expected = _loop(condition, _noise(50, seed).draw, options)
        assert torch.equal(kept[-1], expected)
    assert loop.captures == 2
    assert not torch.equal(kept[0], kept[1])  # the second replay has not overwritten the first's


def test_graphs_unused_the_longest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    loop = _Recorded(_loop, DRAWS.__getitem__)
    for rows, options, captures in (
        (64, "a", 1),
        (64, "b", 2),
        (64, "a", 2),
        (128, "a", 3),
        (64, "a", 3),
        (64, "b", 4),
    ):
        loop((torch.zeros(rows, 2),), _noise(rows, 0), options)
        assert loop.captures == captures


def test_where_nothing_can_be_captured_the_loop_runs_directly(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    loop = LoopGraphs(_loop, DRAWS.__getitem__)
    condition = (torch.ones(64, 2),)
    with caplog.at_level(logging.WARNING):
        results = [loop(condition, _noise(64, seed), "a") for seed in (3, 4)]
    for seed, result in zip((3, 4), results, strict=True):
        assert torch.equal(result, _loop(condition, _noise(64, seed).draw, "a"))
    assert [record.getMessage() for record in caplog.records] == [
        "sampling without CUDA graphs: no graphs here"
    ]


def test_draws_ahead_are_the_draws() -> None:
    ahead = _noise(50, 7)
    buffer = ahead.buffer(3)
    ahead.draw_all(buffer)
    one_by_one = _noise(50, 7)
    assert buffer.shape == (3, 64, 2)
    assert torch.equal(buffer, torch.stack([one_by_one.draw().clone() for _ in range(3)]))
    assert not buffer[:, 50:].any()


@pytest.mark.parametrize(
    ("rows", "on_cpu", "on_gpu"), [(1, 64, 64), (65, 65, 128), (12_800, 12_800, 16_384)]
)
def test_sizes_on_a_gpu_are_few(rows: int, on_cpu: int, on_gpu: int) -> None:
    assert padded_rows(rows, CPU) == on_cpu
    assert padded_rows(rows, CUDA) == on_gpu


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("solver", ["ddpm", "dpmpp_2m"])
@torch.inference_mode()
def test_on_a_gpu_a_graph_gives_what_the_plain_loop_gives(solver: str, guidance: float) -> None:
    prior = some_prior(small_config()).requires_grad_(False).to(CUDA)
    assert isinstance(prior, DiffusionPrior)
    denoiser = prior.denoiser
    loops = [
        StepwiseLoop(
            SplitDenoiser(denoiser, prior.options.steps),
            *(prior.alpha_bar, denoiser.last.out_features, CUDA, prior.options.clip_sample),
            capture=capture,
        )
        for capture in (True, False)
    ]
    options = resolve_options(
        SamplingConfig(solver=solver, steps=5, guidance=guidance),
        SamplingConfig(),
        prior.options.steps,
    )
    for states, candidates in ((1, 1), (3, 50), (3, 50), (40, 500)):
        raw = torch.randn(states, STATE, device=CUDA)
        rows = [Rows(0, candidates, 0, states * candidates, seed=states)]
        captured, plain = (loop(loop.condition(raw), rows, options) for loop in loops)
        torch.testing.assert_close(captured, plain, rtol=1e-5, atol=1e-5)
