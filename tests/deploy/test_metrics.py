"""What the processes expose for Prometheus: everything that dashboards and alerts build on."""

from __future__ import annotations

import shutil
import subprocess

import prometheus_client
import pytest
from prometheus_client import REGISTRY, Histogram, Summary

from common.rpc import metrics as rpc
from common.rpc.stage import Progress
from services.actor import metrics as actor
from services.prior import metrics as prior

HISTOGRAMS: dict[Histogram, tuple[str, ...]] = {
    rpc.SECONDS: ("method",),
    prior.SAMPLE_SECONDS: ("stage", "priority"),
    prior.CALL_ROWS: ("priority",),
    prior.BATCH_ROWS: (),
    prior.BATCH_CALLS: (),
    prior.STEP_SECONDS: (),
    actor.CHOOSE_SECONDS: ("method",),
    actor.DECODE_SECONDS: (),
}
OTHERS = {
    "ldcq_rpc_requests_total",
    "ldcq_prior_rows_total",
    "ldcq_prior_pending_rows",
    "ldcq_prior_rejections_total",
    "ldcq_prior_model_info",
    "ldcq_prior_swaps_total",
    "ldcq_stage_state",
    "ldcq_stage_updates_total",
    "ldcq_stage_step",
    "ldcq_stage_target_steps",
    "ldcq_stage_steps_per_second",
    "ldcq_stage_metric",
    "ldcq_actor_episode_return_sum",
    "ldcq_actor_episode_success_sum",
}


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@pytest.fixture
def exposition() -> str:
    """Every metric with a value, as a scrape returns it."""
    for histogram, labels in HISTOGRAMS.items():
        (histogram.labels(*labels) if labels else histogram).observe(0.5)
    rpc.REQUESTS.labels("/ldcq.v1.PriorService/Sample", "OK").inc()
    prior.REJECTIONS.labels("deadline").inc(0)
    prior.MODEL_INFO.labels("0123456789abcdef").set(1)
    actor.RETURNS.labels("ldcq").observe(-3.0)
    actor.SUCCESSES.labels("ldcq").observe(True)
    Progress("critic").running(1, 2, {"loss": 0.5, "q_mean": 1.0, "td_error": 0.1})
    return prometheus_client.generate_latest().decode()


def test_every_metric_is_there_and_promtool_finds_no_fault(exposition: str) -> None:
    for name in OTHERS | {f"{histogram._name}_bucket" for histogram in HISTOGRAMS}:
        assert f"\n{name}" in exposition, name
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    # The client library's own metrics of the process are not ours to name.
    ours = [line for line in exposition.splitlines(keepends=True) if "ldcq_" in line]
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input="".join(ours),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_summary_of_returns_gives_their_mean() -> None:
    assert isinstance(actor.RETURNS, Summary)
    actor.RETURNS.labels("a method").observe(1.0)
    actor.RETURNS.labels("a method").observe(-4.0)
    assert value("ldcq_actor_episode_return_sum", method="a method") == -3.0
    assert value("ldcq_actor_episode_return_count", method="a method") == 2.0


def test_a_stage_exports_its_state_and_its_updates() -> None:
    progress = Progress("some stage")
    progress.waiting("for nothing")
    assert value("ldcq_stage_state", stage="some stage", state="waiting") == 1
    progress.running(40, 100)  # resumed: 40 were made by a process that is gone
    progress.running(45, 100, {"loss": 2.5})
    progress.running(60, 100)
    assert value("ldcq_stage_updates_total", stage="some stage") == 20
    assert value("ldcq_stage_step", stage="some stage") == 60
    assert value("ldcq_stage_target_steps", stage="some stage") == 100
    assert value("ldcq_stage_metric", stage="some stage", metric="loss") == 2.5
    assert value("ldcq_stage_state", stage="some stage", state="waiting") == 0
    assert value("ldcq_stage_state", stage="some stage", state="running") == 1
    progress.published("v1")
    assert value("ldcq_stage_state", stage="some stage", state="running") == 0
    assert value("ldcq_stage_state", stage="some stage", state="published") == 1
