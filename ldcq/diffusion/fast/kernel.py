"""The compiled half of `fused`: `kernel.c`, built by the machine's C compiler on first use.

Without a compiler there is no kernel, and sampling runs in plain PyTorch, with the same latents up
to rounding and about a third of the speed. Images bring the kernel along, built by `python
ldcq/diffusion/fast/kernel.py FOLDER`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TILE, GROUP = 32, 4
"""Rows computed together, and outputs that a matrix is grouped by, as in `kernel.c`."""

_LOGGER = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernel.c")
_OPTIONS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
_LEVELS = {"AVX512": "-march=x86-64-v4", "AVX2": "-march=x86-64-v3"}
"""A level of the instruction set and not "native": replicas on machines that differ in model only
compute the same bits, and an image's kernel runs where it was not built."""


class Block(ctypes.Structure):
    """`Block` of `kernel.c`."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("inputs", "width", "padded", "skip", "folded")),
        *((name, ctypes.c_void_p) for name in ("resize", "resize_bias", "first")),
        *((name, ctypes.c_void_p) for name in ("second", "second_bias", "norm_gain", "norm_bias")),
        *((name, ctypes.c_void_p) for name in ("gain", "bias")),
    )


class Network(ctypes.Structure):
    """`Network` of `kernel.c`."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("latent", "padded", "blocks", "features", "widest")),
        ("block", ctypes.POINTER(Block)),
        ("last", ctypes.c_void_p),
        ("last_bias", ctypes.c_void_p),
    )


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library for this machine's processor, built where it is missing; None: it cannot be."""
    # Imported here: images build the kernel where there is no torch.
    import torch

    level = torch.backends.cpu.get_cpu_capability()
    try:
        library = ctypes.CDLL(str(build(level)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        # RuntimeError: there is no home to keep it in.
        _LOGGER.warning("sampling without its compiled kernel, at a third of the speed: %s", error)
        return None
    library.ldcq_denoise.argtypes = (
        ctypes.POINTER(Network),
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_void_p,
        ctypes.c_long,
        ctypes.c_float,
        ctypes.c_void_p,
    )
    return library


def build(level: str, folder: Path | None = None) -> Path:
    """Builds the library for one level of the instruction set, if it is not there yet.

    Args:
        level: As torch names it ("AVX512", "AVX2"; others: the compiler's default).
        folder: Where to; None: the user's cache.

    Returns:
        The library's path, whose name holds the digest of source and options.

    Raises:
        OSError: No compiler, or the folder cannot be written.
        subprocess.SubprocessError: The compiler failed.
    """
    options = [*_OPTIONS, *([_LEVELS[level]] if level in _LEVELS else [])]
    identity = hashlib.sha256(_SOURCE.read_bytes() + " ".join(options).encode()).hexdigest()[:16]
    name = f"ldcq-kernel-{identity}.so"
    if folder is None:
        packaged = _SOURCE.with_name(name)
        if packaged.is_file():
            return packaged
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ldcq"
    path = folder / name
    if not path.is_file():
        _compile(options, path)
    return path


def _compile(options: list[str], path: Path) -> None:
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise FileNotFoundError("no C compiler: expected cc, gcc or clang on the PATH, or CC")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # Renamed into place: processes that start together may all build it.
        built = Path(folder) / path.name
        command = [compiler, *options, "-o", str(built), str(_SOURCE), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise subprocess.SubprocessError(f"{' '.join(command)}: {done.stderr.strip()}")
        built.replace(path)


def main(folder: str) -> None:
    """Builds the library for every level of this kind of processor."""
    x86 = platform.machine() == "x86_64"
    for level in (*(_LEVELS if x86 else ()), "DEFAULT"):
        print(build(level, Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1])
