"""The compiled denoiser: the same function, and what happens where it cannot be compiled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ctypes import CDLL
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast import fused, kernel
from ldcq.diffusion.fast.fused import FusedDenoiser, freeze
from ldcq.diffusion.fast.split import FrozenDenoiser, SplitDenoiser

SHAPES = {
    "paper": (128, 32, 16, 8, 16, 32, 128),
    "demo": (64, 64, 64, 64),
    "one": (24,),
    "uneven": (17, 33, 5),
    "narrow": (3, 2, 3, 3),
}
STATE, LATENT, STEPS = 4, 6, 11


@pytest.fixture(scope="module")
def library() -> CDLL:
    found = kernel.load()
    if found is None:
        pytest.skip("needs a C compiler")
    return found


@pytest.fixture
def _uncached() -> Iterator[None]:
    kernel.load.cache_clear()
    yield
    kernel.load.cache_clear()


def _denoiser(widths: tuple[int, ...], latent: int = LATENT) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(STATE, latent, widths, condition_dim=20, time_dim=12, octaves=1)
    for name, parameter in denoiser.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return denoiser


def _predict(
    frozen: FrozenDenoiser, latent: Tensor, states: Tensor, time: int = 3, guidance: float = 1.0
) -> Tensor:
    return frozen.predict(latent, frozen.prepare(frozen.condition(states)), time, guidance)


@pytest.mark.parametrize("compiled", [True, False], ids=["fused", "split"])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0, 0.3])
@pytest.mark.parametrize("rows", [1, 32, 77])
@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
@torch.no_grad()
def test_equals_plain(
    widths: tuple[int, ...], rows: int, guidance: float, compiled: bool, library: CDLL
) -> None:
    denoiser = _denoiser(widths)
    frozen = FusedDenoiser(denoiser, STEPS, library) if compiled else SplitDenoiser(denoiser, STEPS)
    latent, states = torch.randn(rows, LATENT), torch.randn(rows, STATE)
    for time in (1, 5, STEPS):
        times = torch.full((rows,), time)
        null = denoiser(latent, states, times, torch.zeros(rows))
        plain = null + guidance * (denoiser(latent, states, times) - null)
        torch.testing.assert_close(
            _predict(frozen, latent, states, time, guidance), plain, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("latents", [1, 2, 16, 19])
@torch.no_grad()
def test_any_latent_width(latents: int, library: CDLL) -> None:
    denoiser = _denoiser((32, 8), latents)
    latent, states = torch.randn(40, latents), torch.randn(40, STATE)
    plain = denoiser(latent, states, torch.full((40,), 3))
    compiled = _predict(FusedDenoiser(denoiser, STEPS, library), latent, states)
    torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_far_latents_saturate_as_plain_ones_do(library: CDLL) -> None:
    denoiser = _denoiser(SHAPES["paper"])
    latent, states = 1e3 * torch.randn(40, LATENT), 1e2 * torch.randn(40, STATE)
    plain = denoiser(latent, states, torch.full((40,), 3))
    compiled = _predict(FusedDenoiser(denoiser, STEPS, library), latent, states)
    torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
@torch.no_grad()
def test_a_row_depends_on_nothing_but_itself(guidance: float, library: CDLL) -> None:
    """To the last bit: neighbours, even broken ones, place, number and threads change nothing."""
    frozen = FusedDenoiser(_denoiser(SHAPES["paper"]), STEPS, library)
    latent, states = torch.randn(100, LATENT), torch.randn(100, STATE)
    together = _predict(frozen, latent, states, guidance=guidance)
    torch.set_num_threads(2)
    assert torch.equal(_predict(frozen, latent, states, guidance=guidance), together)
    torch.set_num_threads(1)
    latent[50] = torch.nan
    beside = _predict(frozen, latent, states, guidance=guidance)
    assert beside[50].isnan().all()
    assert torch.equal(beside[51:], together[51:])
    moved = frozen.predict(
        latent[51:], frozen.prepare((frozen.condition(states)[0][51:],)), 3, guidance
    )
    assert torch.equal(moved, together[51:])


@torch.no_grad()
def test_keeps_its_weights_when_training_goes_on(library: CDLL) -> None:
    denoiser = _denoiser(SHAPES["demo"])
    frozen = FusedDenoiser(denoiser, STEPS, library)
    latent, states = torch.randn(9, LATENT), torch.randn(9, STATE)
    before = _predict(frozen, latent, states)
    for parameter in denoiser.parameters():
        parameter.add_(1.0)
    assert torch.equal(_predict(frozen, latent, states), before)


@torch.no_grad()
def test_rows_without_their_condition_are_refused(library: CDLL) -> None:
    frozen = FusedDenoiser(_denoiser((8,)), STEPS, library)
    condition = frozen.prepare(frozen.condition(torch.randn(32, STATE)))
    with pytest.raises(ValueError, match="do not fit 1 tiles"):
        frozen.predict(torch.randn(33, LATENT), condition, 3, 1.0)


def test_compiled_where_it_can_be(library: CDLL) -> None:
    assert library is kernel.load()
    assert isinstance(freeze(_denoiser((8,)), STEPS), FusedDenoiser)


@pytest.mark.usefixtures("_uncached")
def test_plain_pytorch_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert isinstance(freeze(_denoiser((8,)), STEPS), SplitDenoiser)
    assert "no C compiler: expected cc, gcc or clang" in caplog.text


@pytest.mark.usefixtures("_uncached")
def test_plain_pytorch_where_the_compiler_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    assert isinstance(freeze(_denoiser((8,)), STEPS), SplitDenoiser)
    assert "sampling without its compiled kernel" in caplog.text
    assert not list((tmp_path / "ldcq").iterdir())


def test_built_once_for_each_level(library: CDLL, tmp_path: Path) -> None:
    assert library is not None
    first = kernel.build("DEFAULT", tmp_path)
    written = first.stat().st_mtime_ns
    assert kernel.build("DEFAULT", tmp_path) == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@torch.no_grad()
def test_levels_agree(library: CDLL, tmp_path: Path) -> None:
    """Without the processor's vector extensions the kernel is the same function."""
    basic = CDLL(str(kernel.build("DEFAULT", tmp_path)))
    basic.ldcq_denoise.argtypes = library.ldcq_denoise.argtypes
    denoiser = _denoiser(SHAPES["paper"])
    latent, states = torch.randn(40, LATENT), torch.randn(40, STATE)
    best, least = (
        _predict(FusedDenoiser(denoiser, STEPS, one), latent, states) for one in (library, basic)
    )
    torch.testing.assert_close(best, least, atol=1e-5, rtol=1e-5)


def test_the_kernel_is_laid_out_as_its_caller_thinks() -> None:
    source = Path(fused.__file__).with_name("kernel.c").read_text()
    assert f"TILE = {kernel.TILE}, GROUP = {kernel.GROUP}," in source
