"""`make gpu-check`: what this machine's GPU makes of the project, in minutes: the tests that need
one, the benchmarks, the demo, and the paper's own sizes.

    python -m campaigns.gpu_check --out docs/results/gpu

Each step is a process of its own. What it found is written before the next one starts, so that one
that fails, or runs out of time, costs the others nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.result import machine, section
from benchmarks.stopwatch import Device, clock_of
from campaigns.result import CampaignResult, JsonOption
from common.rpc.conformance import CheckResult
from common.store.files import replace_atomically
from common.store.timings import Timing
from common.training.device import DeviceError
from experiments.page import table
from ldcq.config import Config, dump, load, override

DATA, PAGE = "gpu.json", "README.md"
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


@dataclass(frozen=True)
class Goal:
    """A figure that was set out for.

    Attributes:
        what: For people.
        step: Whose it is.
        row: What tells its row of the table from others; empty: it is in the summary.
        figure: Its name there.
        bound: What it is to reach on one H100, below or above.
        below: Whether less is better.
    """

    what: str
    step: str
    row: Mapping[str, Any]
    figure: str
    bound: float
    below: bool = False

    def value(self, found: Mapping[str, Found]) -> float | None:
        """The figure; None where it was not measured."""
        result = found[self.step].result if self.step in found else None
        if result is None:
            return None
        rows = result["rows"] if self.row else [result["summary"]]
        for row in rows:
            if self.row.items() <= row.items():
                return float(row[self.figure])
        return None


_RATE = "updates_per_second"
GOALS = (
    Goal("128 x 500 latents, T = 200, w = 1: ms", "sampler",
         {"shape": "128x500", "w": 1.0, "steps": 200}, "call_ms", 40, below=True),
    Goal("1 x 500 latents, T = 200, w = 1: ms", "sampler",
         {"shape": "1x500", "w": 1.0, "steps": 200}, "call_ms", 8, below=True),
    Goal("128 x 100 latents, 10 steps: ms", "sampler",
         {"shape": "128x100", "steps": 10}, "call_ms", 1, below=True),
    Goal("critic, preset `paper`, online: updates/s", "learner",
         {"implementation": "online, the paper's"}, _RATE, 20),
    Goal("critic with V and 8 samples: updates/s", "learner",
         {"implementation": "online, V and 8 samples"}, _RATE, 300),
    Goal("prior of the demo: updates/s", "training-demo", {"trainer": "prior ldcq"}, _RATE, 1500),
    Goal("prior of the paper: updates/s", "training-paper", {"trainer": "prior ldcq"}, _RATE, 1500),
    Goal("VAE of the paper: updates/s", "training-paper", {"trainer": "vae ldcq"}, _RATE, 200),
    Goal("32 actors, joined, of one draw as large", "serving", {}, "actors_ratio_joined", 0.8),
)  # fmt: skip


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


def run(
    wanted: Sequence[Step], out: Path, seconds: float, tell: Callable[[str], None]
) -> Iterator[Found]:
    """Runs the steps, and writes the data and the page after each.

    Args:
        wanted: The steps.
        out: A folder for both.
        seconds: For all of them together; the last ones get what is left.
        tell: Told what is done.
    """
    out.mkdir(parents=True, exist_ok=True)
    end, found = time.monotonic() + seconds, list[Found]()
    about = machine()
    for step in wanted:
        limit = min(step.limit, end - time.monotonic())
        tell(f"{step.title}: up to {max(limit, 0):.0f} s")
        found.append(_run(step, limit))
        tell(f"{step.title}: {_outcome(found[-1])}")
        content = {"machine": about, "steps": [asdict(each) for each in found]}
        replace_atomically(out / DATA, json.dumps(content, indent=2).encode())
        replace_atomically(out / PAGE, page(about, found).encode())
        yield found[-1]


def _run(step: Step, limit: float) -> Found:
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


def _outcome(found: Found) -> str:
    if found.exit_code is None:
        return f"not finished after {found.seconds:.0f} s"
    ended = "done" if found.exit_code == 0 else f"exit code {found.exit_code}"
    return f"{ended} in {found.seconds:.0f} s"


def page(about: Mapping[str, Any], found: Sequence[Found]) -> str:
    """What was found, for people."""
    by_name = {each.name: each for each in found}
    parts = [
        "# On a GPU",
        f"Written by `make gpu-check`: {about.get('gpu', 'no GPU')}, {about['processor']}, "
        f"{about['cores']} cores, torch {about['torch']}, Python {about['python']}. "
        f"[{DATA}]({DATA}) has all of it.",
        table(["step", "outcome"], [[each.title, _outcome(each)] for each in found]),
        "## Goals",
        "Bounds are for one H100.",
        table(["what", "measured", "bound"], [_goal(goal, by_name) for goal in GOALS]),
    ]
    for each in found:
        if each.result is None:
            parts += [f"## {each.title}", f"`{each.command}`", f"```\n{each.said.strip()}\n```"]
        else:
            parts += section(each.title, each.command, each.result)
            warned = [line for line in each.said.splitlines() if " without " in line]
            parts += [f"```\n{line}\n```" for line in warned]  # of what was not done as meant
    return "\n\n".join(part for part in parts if part) + "\n"


def _goal(goal: Goal, found: Mapping[str, Found]) -> list[str]:
    value = goal.value(found)
    sign = "at most" if goal.below else "at least"
    return [goal.what, "-" if value is None else f"{value:.3g}", f"{sign} {goal.bound:g}"]


def main(
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("docs/results/gpu"),
    device: Annotated[Device, typer.Option(help="cpu: to see the check itself run.")] = "cuda",
    minutes: Annotated[float, typer.Option(min=0.1, help="For all steps together.")] = 8.0,
    only: Annotated[list[str], typer.Option(help="A step; repeatable; default: all.")] = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Test, measure and play on this machine's GPU."""
    try:
        clock_of(device)
    except DeviceError as error:
        raise typer.BadParameter(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="ldcq-gpu-") as name:
        wanted = steps(device, Path(name))
        known = [step.name for step in wanted]
        if unknown := set(only) - set(known):
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected {', '.join(known)}")
        chosen = [step for step in wanted if not only or step.name in only]
        found = list(run(chosen, out, 60 * minutes, lambda text: print(text, file=sys.stderr)))
    checks = [CheckResult(each.title, each.exit_code == 0, _outcome(each)) for each in found]
    by_name = {each.name: each for each in found}
    figures = {goal.what: goal.value(by_name) for goal in GOALS}
    settings = {"device": device, "minutes": minutes, "out": str(out)}
    raise typer.Exit(CampaignResult("gpu-check", settings, figures, checks).show(as_json))


if __name__ == "__main__":
    typer.run(main)
