"""The kernel of the GPU: on one where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from ldcq.config import SamplingConfig
from ldcq.diffusion import reverse_loop
from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast.split import SplitDenoiser
from ldcq.diffusion.reverse_loop import ReverseLoop, Rows, StepwiseLoop
from ldcq.diffusion.sampling_options import ResolvedOptions, resolve_options
from ldcq.diffusion.schedule import alpha_bars
from ldcq.randomness import CountedNoise

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernel is imported
pytest.importorskip("triton", reason="needs triton")

from ldcq.diffusion.fast import card
from ldcq.diffusion.fast.card import CardError, CardLoop, Precision

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = [pytest.mark.gpu] if DEVICE.type == "cuda" else []
SHAPES = {
    "paper": (128, 32, 16, 8, 16, 32, 128),
    "one": (24,),
    "uneven": (17, 33, 5),
    "narrow": (3, 2, 3, 3),
}
STATE, LATENT, STEPS, CLIP = 4, 6, 7, 3.0
NOTHING: Mapping[str, object] = MappingProxyType({})
TOLERANCE: dict[Precision, float] = {"fp32": 2e-5, "fp16": 1e-2}


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU too the plain loop draws what the kernel draws."""

    def source(seed: int, start: int, rows: int, _: torch.device) -> CountedNoise:
        return CountedNoise(rows, seed, start)

    monkeypatch.setattr(reverse_loop, "noise_source", source)


def _denoiser(widths: tuple[int, ...], goals: int = 0, latent: int = LATENT) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(
        *(STATE, latent, widths), condition_dim=20, time_dim=12, goal_dim=goals, octaves=1
    )
    for name, parameter in denoiser.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return denoiser.requires_grad_(False).to(DEVICE)


def _loops(
    denoiser: Denoiser, clip: float | None = CLIP, precision: Precision = "fp32"
) -> tuple[CardLoop, StepwiseLoop]:
    alpha_bar, latent = alpha_bars("cosine", STEPS), denoiser.last.out_features
    split = SplitDenoiser(denoiser, STEPS)
    return (
        CardLoop(denoiser, alpha_bar, clip, precision),
        StepwiseLoop(split, alpha_bar, latent, DEVICE, clip, capture=False),
    )


def _options(given: Mapping[str, object] = NOTHING, goals: bool = False) -> ResolvedOptions:
    asked = SamplingConfig.model_validate({"steps": 2, **given})
    return resolve_options(asked, SamplingConfig(), STEPS, goals)


@torch.inference_mode()
def _draw(
    loop: ReverseLoop,
    options: ResolvedOptions,
    rows: Sequence[Rows],
    goals: int = 0,
    states: int = 2,
) -> Tensor:
    given = torch.randn(states, STATE + goals, generator=torch.Generator().manual_seed(1))
    state, goal = given.to(DEVICE).tensor_split([STATE], dim=1)
    nulled = options.nulled if goals and options.guidance != 1 else "both"
    condition = loop.condition(state, goal if goals else None, nulled)
    return loop(condition, rows, options)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_draws_what_the_plain_loop_draws(widths: tuple[int, ...], precision: Precision) -> None:
    rows = [Rows(1, 3, 0, 3, seed=5)]
    ours, plain = (
        _draw(loop, _options(), rows) for loop in _loops(_denoiser(widths), precision=precision)
    )
    torch.testing.assert_close(ours, plain, atol=TOLERANCE[precision], rtol=0)


@pytest.mark.parametrize(
    "given",
    [
        {"solver": "dpmpp_2m", "steps": 4},
        {"solver": "ddim", "guidance": 2.5},
        {"guidance": 0.0},
        {"guidance": 0.4, "temperature": 0.5, "extra_steps": 2},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_takes_every_option(given: dict[str, object]) -> None:
    rows = [Rows(0, 4, 0, 8, seed=2**63 + 9)]
    ours, plain = (_draw(loop, _options(given), rows) for loop in _loops(_denoiser((24, 8, 24))))
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=0)


@pytest.mark.parametrize("nulled", ["state", "goal", "both"])
def test_goals_are_nulled_as_asked(nulled: str) -> None:
    options = _options({"guidance": 2.0, "nulled": nulled}, goals=True)
    loops = _loops(_denoiser((16, 8), goals=2))
    ours, plain = (_draw(loop, options, [Rows(0, 2, 0, 4, seed=1)], goals=2) for loop in loops)
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=0)


def test_latents_wider_than_a_tile_s_column_and_unbounded() -> None:
    loops = _loops(_denoiser((24,), latent=19), clip=None)
    ours, plain = (_draw(loop, _options(), [Rows(0, 2, 0, 4, seed=1)]) for loop in loops)
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=0)


def test_a_row_gets_its_bits_in_any_company() -> None:
    """Cut into blocks in the middle of a state, longer than a tile, joined with another draw."""
    loop, _ = _loops(_denoiser((16, 8)), precision="fp16")
    options, n = _options(), card.TILE + 6
    whole = _draw(loop, options, [Rows(0, n, 0, 2 * n, seed=3)])
    for start, end in ((0, 9), (9, n + 30), (n + 30, 2 * n)):
        part = _draw(loop, options, [Rows(0, n, start, end, seed=3)])
        assert torch.equal(part, whole[start:end])
    other = Rows(1, 5, 0, 5, seed=4)
    joined = _draw(loop, options, [other, Rows(0, n, 0, n, seed=3)])
    assert torch.equal(joined[:5], _draw(loop, options, [other]))
    assert torch.equal(joined[5:], whole[:n])


def test_a_state_is_encoded_the_same_in_any_company() -> None:
    loop, _ = _loops(_denoiser((16, 8)))
    states = torch.randn(card.STATES + 9, STATE, device=DEVICE)
    (together,) = loop.condition(states)
    (alone,) = loop.condition(states[-1:])
    assert torch.equal(together[-1:], alone)


def test_a_block_that_is_too_wide_is_refused() -> None:
    with pytest.raises(CardError, match="a block is 300 wide, more than 256"):
        CardLoop(_denoiser((300,)), alpha_bars("cosine", STEPS), CLIP)


def test_an_unknown_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(card.PRECISION, "bf16")
    with pytest.raises(ValueError, match="LDCQ_GPU_PRECISION is 'bf16', expected fp16, tf32, fp32"):
        card.chosen_precision()


def test_what_does_not_compile_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: CardLoop) -> dict[str, object]:
        raise RuntimeError("out of resource: shared memory")

    monkeypatch.setattr(CardLoop, "constants", fail)
    with pytest.raises(CardError, match="RuntimeError: out of resource: shared memory"):
        CardLoop(_denoiser((16,)), alpha_bars("cosine", STEPS), CLIP)
