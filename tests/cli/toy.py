"""A process for a supervisor, which behaves as its first argument says."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from common.rpc import stage
from common.rpc.server import Server
from common.rpc.signals import StopSignals
from common.rpc.stage import Progress, StageServicer
from ldcq.v1 import stage_pb2_grpc


def run_stage(behaviour: str, address: str, marks: str) -> None:
    """A stage that publishes, the first or the second time it is started, fails or waits."""
    with Path(marks).open("a") as file:
        file.write("started\n")
    progress = Progress("toy")
    server = Server(address)
    add = stage_pb2_grpc.add_StageServiceServicer_to_server
    server.add(add, StageServicer(progress), stage.FULL_NAME)
    server.start()
    progress.running(1, 2, message="working")
    starts = len(Path(marks).read_text().splitlines())
    if behaviour == "fail":
        progress.failed("the data is not there; make it first")
        server.drain()
        print("error: the data is not there")
        sys.exit(1)
    if behaviour == "publish" or (behaviour == "publish-second" and starts > 1):
        progress.published("abc", reused=starts > 1)
    if behaviour.startswith("wait"):
        progress.waiting("waiting for vae of main", behaviour.removeprefix("wait "))
    with StopSignals() as signals:
        signals.event.wait()
    server.drain()


def serve(address: str, call: str, outcome: str) -> None:
    """A server that drains as long as there is a call; it cannot start if `outcome` is bad."""
    del address

    def drain(*_: object) -> None:
        while Path(call).exists():
            time.sleep(0.01)
        sys.exit(0)

    signal.signal(signal.SIGTERM, drain)
    print("up", flush=True)
    if outcome == "bad":
        sys.exit(2)
    while True:
        time.sleep(0.05)


def ignore_the_end() -> None:
    """Goes on after SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    behaviour, *arguments = sys.argv[1:]
    if behaviour == "serve":
        serve(*arguments)
    elif behaviour == "sleep":
        time.sleep(600)
    elif behaviour == "stubborn":
        ignore_the_end()
    elif behaviour == "unlucky":
        print("no luck")
        sys.exit(7)
    else:
        run_stage(behaviour, *arguments)
