"""The progress of any number of stages: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from ldcq.v1 import stage_pb2

Update = stage_pb2.StageServiceWatchResponse

_WAITING = stage_pb2.STAGE_STATE_WAITING
_RUNNING = stage_pb2.STAGE_STATE_RUNNING
_PUBLISHED = stage_pb2.STAGE_STATE_PUBLISHED
_FAILED = stage_pb2.STAGE_STATE_FAILED
_STYLES = {_WAITING: "dim", _RUNNING: "cyan", _PUBLISHED: "green", _FAILED: "bold red"}


class ProgressBars:
    """Shows what stages report; safe to update from several threads.

    In a terminal one bar per stage with step, rate, time left and the last loss; where output is no
    terminal (a log, CI) one plain line per stage at every change of state and now and then between.
    """

    def __init__(self, console: Console | None = None, *, plain_seconds: float = 5.0) -> None:
        """Shows nothing before it is entered; without a console on standard error, and of a stage
        that is running a plain line every `plain_seconds`.
        """
        self._console = console or Console(stderr=True)
        self._plain_seconds = plain_seconds
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, tuple[int, str, int, float]] = {}
        self._bars: Progress | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars = Progress(*_columns(), console=self._console, expand=True)
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None

    def update(self, label: str, response: Update) -> None:
        """Shows the latest progress of one stage; a new label gets a bar of its own."""
        with self._lock:
            if self._bars is not None:
                self._draw(self._bars, label, response)
            elif not self._console.is_terminal:
                self._print(label, response)

    def _draw(self, bars: Progress, label: str, response: Update) -> None:
        if label not in self._tasks:
            self._tasks[label] = bars.add_task(
                escape(label), total=None, text="", numbers="", style="dim"
            )
        done = response.state == _PUBLISHED
        bars.update(
            self._tasks[label],
            # An unknown total makes the bar pulse, which says "busy" and not "0 %".
            total=(response.total or 1) if done else (response.total or None),
            completed=(response.total or 1) if done else response.step,
            text=escape(describe(response)),
            numbers=numbers(response),
            style=_STYLES.get(response.state, "dim"),
        )

    def _print(self, label: str, response: Update) -> None:
        text, now = describe(response), time.monotonic()
        state, last_text, last_step, last_time = self._printed.get(label, (-1, "", -1, -math.inf))
        if response.state == state == _RUNNING:
            finished = response.step >= response.total > 0  # and yet at work: on the report
            if finished and (text, response.step) == (last_text, last_step):
                return
            if now - last_time < self._plain_seconds:
                return
        elif (response.state, text) == (state, last_text):
            return
        self._printed[label] = (response.state, text, response.step, now)
        line = "  ".join(part for part in (f"[{label}]", text, numbers(response)) if part)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _columns() -> list[TextColumn | BarColumn]:
    return [
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(min_width=8, ratio=1)),
        TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
        TextColumn(
            "[{task.fields[style]}]{task.fields[text]}",
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    ]


def describe(response: Update) -> str:
    """State and message of a stage in a few words."""
    if response.state == _PUBLISHED:
        said = "already there" if response.reused else "done"
        return f"{said}: {response.artifact_version or 'there was nothing to do'}"
    if response.state == _FAILED:
        return f"failed: {response.message}"
    if response.state == _WAITING:
        return response.message or "waiting"
    if response.state == _RUNNING:
        return response.message or "training"
    return "starting"


def numbers(response: Update) -> str:
    """Step, rate, time left and loss of a running stage; empty for any other."""
    if response.state != _RUNNING or not response.total:
        return ""
    parts = [f"{response.step}/{response.total}"]
    if response.rate > 0:
        digits = ".0f" if response.rate >= 100 else ".3g"
        parts.append(f"{response.rate:{digits}}/s")
        parts.append(f"{duration((response.total - response.step) / response.rate)} left")
    loss = last_loss(response.metrics)
    if loss is not None:
        parts.append(f"loss {loss:.4g}")
    return " ".join(parts)


def last_loss(metrics: Mapping[str, float]) -> float | None:
    """The metric to show: `loss`, else the first whose name has "loss" in it."""
    names = [name for name in sorted(metrics) if "loss" in name]
    return metrics["loss" if "loss" in names else names[0]] if names else None


def duration(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, second = divmod(max(0, math.ceil(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
