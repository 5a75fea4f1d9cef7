"""A campaign ends with an exit code that says whether all was well."""

from __future__ import annotations

import json

import pytest

from campaigns.result import CampaignResult
from common.rpc.conformance import CheckResult


@pytest.mark.parametrize(("passed", "code", "mark"), [(True, 0, "passed"), (False, 1, "FAILED")])
def test_the_exit_code_and_both_ways_to_show_it(
    capsys: pytest.CaptureFixture[str], passed: bool, code: int, mark: str
) -> None:
    checks = [CheckResult("first", True, "fine"), CheckResult("second", passed, "[so so]")]
    result = CampaignResult("soak", {"calls": 3}, {"outcomes": {"Act OK": 3}}, checks)
    assert result.show(as_json=False) == code
    shown = capsys.readouterr().out
    assert f"{mark}  second: [so so]" in shown
    assert "calls: 3" in shown
    assert result.show(as_json=True) == code
    found = json.loads(capsys.readouterr().out)
    assert (found["campaign"], found["passed"]) == ("soak", passed)
    assert found["checks"][1] == {"name": "second", "passed": passed, "detail": "[so so]"}
