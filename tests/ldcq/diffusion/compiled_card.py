"""Compiles the GPU's kernel without a GPU, and prints what it takes of one, as JSON.

Run as a program: Triton decides for good at its import whether it interprets.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast import card, card_kernel
from ldcq.diffusion.schedule import alpha_bars

POINTERS = {
    "out": "*fp32",
    "tiles": "*i64",
    "conditions": "*fp32",
    "matrices": "*fp16",
    "vectors": "*fp32",
    "tables": "*fp32",
    "times": "*i32",
    "coefficients": "*fp32",
}
SCALARS = {
    **dict.fromkeys(("steps", "halves", "still"), "i32"),
    **dict.fromkeys(("guidance", "temperature", "clip"), "fp32"),
}


class _Uncompiled(card.CardLoop):
    """Has the constants without trying them on a GPU."""

    def _try(self) -> None:
        pass


def compiled(
    widths: tuple[int, ...], precision: card.Precision, architecture: int
) -> dict[str, int]:
    """Bytes of stack of a thread, and of shared memory of a tile."""
    denoiser = Denoiser(4, 16, widths, condition_dim=16, time_dim=16).requires_grad_(False)
    loop = _Uncompiled(denoiser, alpha_bars("cosine", 5), 3.0, precision)
    pointers = POINTERS | ({} if precision == "fp16" else {"matrices": "*fp32"})
    constants = loop.constants()
    source = ASTSource(
        card_kernel.reverse_loop,
        signature={**pointers, **SCALARS, **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
        # As tensors of torch are: at addresses that are multiples of 16.
        attrs={(index,): [["tt.divisibility", 16]] for index in range(len(pointers))},
    )
    options = {"num_warps": card.WARPS}
    made: Any = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return {"stack": _stack(made.asm["cubin"]), "shared": made.metadata.shared}


def _stack(cubin: bytes) -> int:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"STACK:(\d+)", said)
    assert found, said
    return int(found[1])


if __name__ == "__main__":
    torch.manual_seed(0)
    shape, asked, target = json.loads(sys.argv[1])
    print(json.dumps(compiled(tuple(shape), asked, target)))
