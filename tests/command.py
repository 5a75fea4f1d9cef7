"""Runs the `ldcq` command as its users do: in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

TINY = Path(__file__).parent / "tiny.yaml"
PIXELS = Path(__file__).parent / "pixels.yaml"
VALUED = Path(__file__).parent / "valued.yaml"
REPORT = ("--set", "evaluation.report=true")
"""For the few tests that read the report: its figures take as long as training does here."""
PATIENCE = 300.0


def ldcq(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command, which must succeed."""
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done


def tiny_configuration(folder: Path, changes: dict[str, Any]) -> Path:
    """A file with the tiny configuration, changed, for data that is there already."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"base": str(TINY), **changes}))
    return path


def run_json(config: Path, store: Path, *options: str) -> dict[str, Any]:
    """What `ldcq run --json` prints."""
    done = ldcq("run", config, "--store", store, "--json", *options)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
