"""What a campaign found, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from common.rpc.conformance import CheckResult

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class CampaignResult:
    """The figures of one campaign, and what they had to be."""

    campaign: str  # its name
    settings: Mapping[str, Any]  # that it was started with
    figures: Mapping[str, Any]  # what was counted
    checks: Sequence[CheckResult]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    def show(self, as_json: bool) -> int:
        """Prints it on standard output, as one JSON object or for people.

        Returns:
            The exit code: 0, or 1 where a check failed.
        """
        if as_json:
            print(json.dumps({**asdict(self), "passed": self.passed}, indent=2))
        else:
            console = Console(highlight=False, markup=False)
            for name, value in (*self.settings.items(), *self.figures.items()):
                console.print(f"{name}: {value}")
            for check in self.checks:
                mark = "passed" if check.passed else "FAILED"
                console.print(f"{mark}  {check.name}: {check.detail}", soft_wrap=True)
        return 0 if self.passed else 1
