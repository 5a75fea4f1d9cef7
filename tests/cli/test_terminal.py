"""What a person sees of running stages."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli.terminal import ProgressBars, duration, last_loss
from ldcq.v1 import stage_pb2

RUNNING = stage_pb2.StageServiceWatchResponse(
    stage="prior",
    state=stage_pb2.STAGE_STATE_RUNNING,
    step=30,
    total=100,
    rate=0.5,
    metrics={"loss": 0.125, "learning_rate": 1e-3},
)
WAITING = stage_pb2.StageServiceWatchResponse(
    stage="critic", state=stage_pb2.STAGE_STATE_WAITING, message="waiting for [red] prior"
)
DONE = stage_pb2.StageServiceWatchResponse(
    stage="prior", state=stage_pb2.STAGE_STATE_PUBLISHED, artifact_version="abcd", step=100
)
FAILED = stage_pb2.StageServiceWatchResponse(
    stage="vae", state=stage_pb2.STAGE_STATE_FAILED, message="loss is nan"
)


def plain(seconds: float = 1e9) -> tuple[io.StringIO, ProgressBars]:
    out = io.StringIO()
    return out, ProgressBars(Console(file=out, width=60), plain_seconds=seconds)


def test_lines_tell_every_change_of_state_once() -> None:
    out, bars = plain()
    with bars:
        for update in (WAITING, WAITING, RUNNING, RUNNING, DONE, DONE):
            bars.update("prior-1", update)
        bars.update("vae", FAILED)
    assert out.getvalue().splitlines() == [
        "[prior-1]  waiting for [red] prior",
        "[prior-1]  training  30/100 0.5/s 2:20 left loss 0.125",
        "[prior-1]  done: abcd",
        "[vae]  failed: loss is nan",
    ]


def test_lines_repeat_while_a_stage_runs() -> None:
    out, bars = plain(seconds=0)
    with bars:
        for _ in range(3):
            bars.update("prior", RUNNING)
    assert len(out.getvalue().splitlines()) == 3


def test_a_line_whose_steps_are_done_is_not_repeated() -> None:
    """The report is written after the last episode, and takes its time."""
    out, bars = plain(seconds=0)
    playing, writing = (
        stage_pb2.StageServiceWatchResponse(
            state=stage_pb2.STAGE_STATE_RUNNING, step=60, total=60, message=message
        )
        for message in ("playing ldcq", "writing the report")
    )
    with bars:
        for update in (RUNNING, playing, playing, writing, writing, writing):
            bars.update("actor", update)
    assert out.getvalue().splitlines() == [
        "[actor]  training  30/100 0.5/s 2:20 left loss 0.125",
        "[actor]  playing ldcq  60/60",
        "[actor]  writing the report  60/60",
    ]


def test_a_terminal_gets_one_bar_for_each_stage() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with ProgressBars(console) as bars:
        bars.update("prior", RUNNING)
        bars.update("critic", WAITING)
        bars.update("vae", FAILED)
        bars.update("actor", DONE)
    final = out.getvalue().rstrip("\n\x1b[?25h").splitlines()[-4:]
    assert "prior" in final[0]
    assert "30/100 0.5/s 2:20 left loss 0.125" in final[0]
    assert "waiting for [red] prior" in final[1]
    assert "failed: loss is nan" in final[2]
    assert "done: abcd" in final[3]
    shown = out.getvalue()
    bars.update("prior", DONE)  # a late update after the end draws nothing
    assert out.getvalue() == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (9.2, "0:10"), (61, "1:01"), (3600, "1:00:00"), (-3, "0:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_loss_that_is_shown() -> None:
    assert last_loss({"loss": 1.0, "aloss": 2.0}) == 1.0
    assert last_loss({"critic_loss": 2.0, "value": 3.0}) == 2.0
    assert last_loss({"value": 3.0}) is None
