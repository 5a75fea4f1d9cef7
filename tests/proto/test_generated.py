"""The generated code in the repository is what the contracts generate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "proto" / "generate.sh", tmp_path],
        env={**os.environ, "BIN": str(Path(sys.executable).parent)},
        check=True,
        capture_output=True,
    )
    fresh = {p.relative_to(tmp_path): p for p in tmp_path.rglob("*") if p.is_file()}
    kept = {
        p.relative_to(ROOT)
        for p in (ROOT / "ldcq").rglob("*_pb2*.py*")
        if p.suffix in (".py", ".pyi")
    }
    assert set(fresh) == kept, "run `make proto`"
    stale = [name for name, p in fresh.items() if p.read_bytes() != (ROOT / name).read_bytes()]
    assert stale == [], "run `make proto`"
