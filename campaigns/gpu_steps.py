"""The steps of `make gpu-check`: each a process of its own, and what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stopwatch import Device
from common.store.timings import Timing
from ldcq.config import Config, dump, load, override

UPDATES = 300
"""Of the paper's critic."""
TESTS = (
    "tests/ldcq/diffusion/test_card.py",
    "tests/ldcq/diffusion/test_graphs.py",
    "tests/ldcq/learning/test_captured.py",
    "tests/ldcq/learning/test_captured_learners.py",
)
"""Where tests need a GPU; collecting all others would take longer than to run these."""
TAIL = 2000
"""Characters of a step's last words that are kept, of each stream."""
GRACE = 20.0
"""Seconds to end in, for a step whose time is up."""


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: In the data.
        title: For people.
        command: Of this Python.
        limit: Seconds it may take.
        read: What it found, from its standard output, in the shape of a benchmark's result.
    """

    name: str
    title: str
    command: tuple[str, ...]
    limit: float
    read: Callable[[str], Mapping[str, Any]] = json.loads


@dataclass(frozen=True)
class Found:
    """What became of a step.

    Attributes:
        exit_code: None: it ran out of time, or there was none left.
        result: What it found; None where it failed.
        said: Its last words.
    """

    name: str
    title: str
    command: str
    seconds: float
    exit_code: int | None
    result: Mapping[str, Any] | None
    said: str

    @property
    def outcome(self) -> str:
        """For people."""
        if self.exit_code is None:
            return f"not finished after {self.seconds:.0f} s"
        ended = "done" if self.exit_code == 0 else f"exit code {self.exit_code}"
        return f"{ended} in {self.seconds:.0f} s"


def steps(device: Device, folder: Path) -> list[Step]:
    """All steps, those first that matter most where time runs out.

    Args:
        device: Of all of them.
        folder: For their stores.
    """

    def bench(name: str, limit: float, *options: str, called: str = "") -> Step:
        command = ("-m", "cli.main", "bench", name, *options, "--device", device, "--json")
        return Step(called or name, f"benchmark {called or name}", command, limit)

    def run(config: str, store: str) -> tuple[str, ...]:
        options = ("--store", str(folder / store), "--replicas", "0", "--set", f"device={device}")
        return ("-m", "cli.main", "run", config, *options, "--json")

    paper = folder / "paper.yaml"
    paper.write_text(dump(paper_on_generated_data()))

    def rates(_: str) -> dict[str, Any]:
        return training_rates(folder / "paper")

    return [
        Step("tests", "tests on the GPU", ("-m", "pytest", "-q", "-m", "gpu", *TESTS), 120, _tests),
        bench("sampler", 90),
        bench("learner", 75, "--rounds", "30"),
        bench("training", 60, "--rounds", "5", "--preset", "paper", called="training-paper"),
        bench("training", 45, "--rounds", "10", called="training-demo"),
        Step("paper", f"preset `paper`, {UPDATES} updates", run(str(paper), "paper"), 90, rates),
        bench("serving", 60, "--rounds", "2"),
        Step("demo", "the demo", run("configs/demo.yaml", "demo"), 240, _scores),
    ]  # fmt: skip


def paper_on_generated_data() -> Config:
    """Preset `paper` over the demo's data, which are made here: an epoch of VAE and prior, and no
    evaluation.
    """
    few = {"vae.epochs": 1, "prior.epochs": 1, "critic.updates": UPDATES}
    data = load("demo").data.model_dump(mode="json")
    return override(load("paper"), {**few, "data": data, "evaluation.methods": {}})


def training_rates(store: Path) -> dict[str, Any]:
    """Updates per second of the models in a store, starting and loading included."""
    rows = []
    for kind in ("vae", "prior", "critic"):
        for path in sorted((store / "timings" / kind).glob("*.json")):
            timing = Timing.model_validate_json(path.read_text())
            if timing.updates:
                rate = timing.updates / timing.seconds
                rows.append({"model": kind, "updates": timing.updates, "updates_per_second": rate})
    return {"summary": {}, "rows": rows, "notes": []}


def run(step: Step, limit: float) -> Found:
    """Runs a step to its end, or for `limit` seconds; with none left it is not started."""
    start, command = time.monotonic(), " ".join(("python", *step.command))
    code: int | None = None
    said, result = "there was no time left for it", None
    if limit > 0:
        process = subprocess.Popen(
            (sys.executable, *step.command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            output, errors = process.communicate(timeout=limit)
            code = process.returncode
        except subprocess.TimeoutExpired:
            process.terminate()  # a run ends its own processes
            output, errors = _rest(process)
        said = f"{output[-TAIL:]}\n{errors[-TAIL:]}"
        if code == 0:
            result = step.read(output)
    seconds = time.monotonic() - start
    return Found(step.name, step.title, command, seconds, code, result, said.strip())


def _rest(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process that is to end still says."""
    try:
        return process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def _tests(output: str) -> dict[str, Any]:
    last = (output.strip().splitlines() or [""])[-1]
    return {"summary": {}, "rows": [{"outcome": last.strip("= ")}], "notes": []}


def _scores(output: str) -> dict[str, Any]:
    rows = [
        {
            "method": row["method"],
            **{name: _interval(row.get(name)) for name in ("return", "first_hit")},
            "episodes": row["episodes"],
        }
        for row in json.loads(output)["rows"]
    ]
    return {"summary": {}, "rows": rows, "notes": []}


def _interval(score: Mapping[str, float] | None) -> str:
    if score is None:
        return "-"
    return f"{score['mean']:.1f} [{score['ci_low']:.1f}, {score['ci_high']:.1f}]"
