"""`make gpu-check`: what this machine's GPU makes of the project, in minutes: the tests that need
one, the benchmarks, the demo, and the paper's own sizes.

    python -m campaigns.gpu_check --out docs/results/gpu

What a step found is written before the next one starts, so that one that fails, or runs out of
time, costs the others nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.result import machine
from benchmarks.stopwatch import Device, clock_of
from campaigns import gpu_steps
from campaigns.gpu_page import DATA, GOALS, PAGE, page
from campaigns.gpu_steps import Found, Step
from campaigns.result import CampaignResult, JsonOption
from common.rpc.conformance import CheckResult
from common.store.files import replace_atomically
from common.training.device import DeviceError


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
        found.append(gpu_steps.run(step, limit))
        tell(f"{step.title}: {found[-1].outcome}")
        content = {"machine": about, "steps": [asdict(each) for each in found]}
        replace_atomically(out / DATA, json.dumps(content, indent=2).encode())
        replace_atomically(out / PAGE, page(about, found).encode())
        yield found[-1]


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
        wanted = gpu_steps.steps(device, Path(name))
        known = [step.name for step in wanted]
        if unknown := set(only) - set(known):
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected {', '.join(known)}")
        chosen = [step for step in wanted if not only or step.name in only]
        found = list(run(chosen, out, 60 * minutes, lambda text: print(text, file=sys.stderr)))
    checks = [CheckResult(each.title, each.exit_code == 0, each.outcome) for each in found]
    by_name = {each.name: each for each in found}
    figures = {goal.what: goal.value(by_name) for goal in GOALS}
    settings = {"device": device, "minutes": minutes, "out": str(out)}
    raise typer.Exit(CampaignResult("gpu-check", settings, figures, checks).show(as_json))


if __name__ == "__main__":
    typer.run(main)
