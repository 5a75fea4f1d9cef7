"""Writes the dashboards: `python deploy/observability/dashboards.py`. A panel is a line here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
WINDOW = "$__rate_interval"
COLUMNS, HEIGHT = 3, 8
SOURCE = {"type": "prometheus", "uid": "prometheus"}


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: What is seen.
        queries: PromQL by legend.
        unit: Grafana's name of the unit.
        kind: Grafana's name of the picture.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"


def rate(counter: str, by: str) -> str:
    """Per second, summed by labels."""
    return f"sum by ({by}) (rate({counter}[{WINDOW}]))"


def quantile(share: float, histogram: str, by: str, selector: str = "") -> str:
    """A quantile of a histogram over the window, by labels."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket{selector}', f'le, {by}')})"


def mean(metric: str, by: str) -> str:
    """The mean observation over the window, by labels."""
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


def sample_seconds(stage: str) -> dict[str, str]:
    """Median and 95th percentile of a stage of Sample calls, by priority."""
    name, selector = "ldcq_prior_sample_seconds", f'{{stage="{stage}"}}'
    return {
        f"{label} {{{{service}}}} {{{{priority}}}}": quantile(
            share, name, "service, priority", selector
        )
        for label, share in (("p50", 0.5), ("p95", 0.95))
    }


REPLICA, STAGE = "{{service}} {{instance}}", "{{service}} {{stage}}"

DASHBOARDS = {
    "sampling": (
        Panel("Latents per second", {REPLICA: rate("ldcq_prior_rows_total", "service, instance")}),
        Panel(
            "Calls per second, by replica",
            {REPLICA: rate('ldcq_prior_sample_seconds_count{stage="total"}', "service, instance")},
            "reqps",
        ),
        Panel("Seconds of a call", sample_seconds("total"), "s"),
        Panel("Seconds in the queue", sample_seconds("queue"), "s"),
        Panel("Seconds computed", sample_seconds("compute"), "s"),
        Panel(
            "Seconds per denoising step",
            {"p95 {{service}}": quantile(0.95, "ldcq_prior_step_seconds", "service")},
            "s",
        ),
        Panel("Pending rows", {REPLICA: "ldcq_prior_pending_rows"}),
        Panel(
            "Share of the queue in use",
            {REPLICA: "ldcq_prior_pending_rows / ldcq_prior_capacity_rows"},
            "percentunit",
        ),
        Panel(
            "Rows computed at once, mean", {"{{service}}": mean("ldcq_prior_batch_rows", "service")}
        ),
        Panel(
            "Rows of a call, mean",
            {"{{service}} {{priority}}": mean("ldcq_prior_call_rows", "service, priority")},
        ),
        Panel(
            "Calls dropped per second",
            {"{{service}} {{reason}}": rate("ldcq_prior_rejections_total", "service, reason")},
            "reqps",
        ),
        Panel(
            "Replicas by model version",
            {"{{service}} {{version}}": "count by (service, version) (ldcq_prior_model_info)"},
        ),
        Panel("Models swapped in", {REPLICA: "ldcq_prior_swaps_total"}),
        Panel(
            "Answers by status code",
            {"{{code}}": rate('ldcq_rpc_requests_total{method=~".*PriorService.*"}', "code")},
            "reqps",
        ),
    ),
    "learning": (
        Panel("Updates per second", {STAGE: rate("ldcq_stage_updates_total", "service, stage")}),
        Panel(
            "Share of the updates made",
            {STAGE: "ldcq_stage_step / ldcq_stage_target_steps"},
            "percentunit",
        ),
        Panel(
            "State",
            {"{{service}} {{stage}} {{state}}": "ldcq_stage_state == 1"},
            kind="state-timeline",
        ),
        Panel(
            "Losses",
            {"{{service}} {{stage}} {{metric}}": 'ldcq_stage_metric{metric=~".*loss.*"}'},
        ),
        Panel(
            "Mean Q",
            {"{{service}} {{metric}}": 'ldcq_stage_metric{metric=~"q_mean|target_mean"}'},
        ),
        Panel("TD error", {"{{service}}": 'ldcq_stage_metric{metric="td_error"}'}),
        Panel("CPU cores", {REPLICA: rate("process_cpu_seconds_total", "service, instance")}),
        Panel("Memory", {REPLICA: "process_resident_memory_bytes"}, "bytes"),
    ),
    "acting": (
        Panel(
            "Mean return",
            {
                "{{method}}": "sum by (method) (ldcq_actor_episode_return_sum)"
                " / sum by (method) (ldcq_actor_episode_return_count)"
            },
        ),
        Panel(
            "Success",
            {
                "{{method}}": "sum by (method) (ldcq_actor_episode_success_sum)"
                " / sum by (method) (ldcq_actor_episode_success_count)"
            },
            "percentunit",
        ),
        Panel("Episodes", {"{{method}}": "sum by (method) (ldcq_actor_episode_return_count)"}),
        Panel(
            "Seconds to choose latents",
            {
                "p95 {{method}}": quantile(0.95, "ldcq_actor_choose_seconds", "method"),
            },
            "s",
        ),
        Panel(
            "Seconds to decode a step",
            {
                "p50 {{service}}": quantile(0.5, "ldcq_actor_decode_seconds", "service"),
                "p95 {{service}}": quantile(0.95, "ldcq_actor_decode_seconds", "service"),
            },
            "s",
        ),
        Panel(
            "Steps decoded per second",
            {"{{service}}": rate("ldcq_actor_decode_seconds_count", "service")},
        ),
        Panel(
            "Act calls, p95",
            {"{{service}}": quantile(0.95, "ldcq_rpc_seconds", "service", '{method=~".*/Act"}')},
            "s",
        ),
    ),
}


def dashboard(name: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    width = 24 // COLUMNS
    return {
        "uid": f"ldcq-{name}",
        "title": f"ldcq: {name}",
        "tags": ["ldcq"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [
            {
                "id": number + 1,
                "title": panel.title,
                "type": panel.kind,
                "datasource": SOURCE,
                "gridPos": {
                    "x": number % COLUMNS * width,
                    "y": number // COLUMNS * HEIGHT,
                    "w": width,
                    "h": HEIGHT,
                },
                "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + place), "expr": query, "legendFormat": legend}
                    for place, (legend, query) in enumerate(panel.queries.items())
                ],
            }
            for number, panel in enumerate(panels)
        ],
    }


def files() -> dict[Path, str]:
    """What is to be in the folder."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard(name, panels), indent=1) + "\n"
        for name, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
