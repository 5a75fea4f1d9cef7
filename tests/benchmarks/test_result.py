"""Benchmarks' JSON as a page of figures."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.result import record

MACHINE = {"processor": "A CPU", "cores": 2, "torch": "2", "python": "3.11"}


def _result(**machine: Any) -> dict[str, Any]:
    return {
        "summary": {"ratio_to_plain": 4.5219},
        "rows": [{"updates_per_second": 17.31, "batch": 128}],
        "notes": ["One.", "Two."],
        "machine": MACHINE | machine,
    }


def test_the_page_has_commands_figures_and_tables() -> None:
    page = record({"learner": _result(threads=1), "other": _result(threads=2)})
    assert "A CPU, 2 cores, no GPU" in page
    assert "`ldcq bench learner`\n\n`ratio_to_plain` **4.52**" in page
    assert "| updates per second | batch |\n| --- | --- |\n| 17.3 | 128 |\n\nOne.\nTwo." in page
    assert "sampler" not in page


def test_figures_of_several_machines_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="of 2 machines"):
        record({"learner": _result(), "sampler": _result(cores=4)})
    with pytest.raises(ValueError, match="of 0 machines"):
        record({})
