"""A small trained store, and servers over it as processes of their own, watched from outside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self, TypeVar

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc.channel import connect
from common.rpc.metrics_targets import addresses

T = TypeVar("T")
StoreOption = Annotated[
    Path | None, typer.Option(help="A run's folder, copied; default: one is trained.")
]
ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "tiny.yaml"
START_SECONDS = 120.0
STOP_SECONDS = 90.0


class CampaignError(RuntimeError):
    """A campaign that cannot go on; the message says why."""


def small_store(folder: Path, given: Path | None) -> Path:
    """A store of the tiny configuration with all models and an evaluation, for changing.

    Args:
        folder: Where to put it.
        given: One that is there already, and is copied; None: it is trained, in a minute.

    Raises:
        CampaignError: The training failed.
    """
    store = folder / "store"
    if given is not None:
        return shutil.copytree(given, store, ignore=shutil.ignore_patterns("lock"))
    command = [sys.executable, "-m", "cli.main", "run", str(TINY), "--store", str(store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CampaignError(f"training a small store failed: {done.stderr[-2000:]}")
    return store


class ServerProcess:
    """`python -m services.<service> serve`, listening on a free port of this machine.

    Attributes:
        name: Of the log, and of what is reported.
        address: HOST:PORT of its gRPC server.
        metrics_address: HOST:PORT of its metrics.
    """

    def __init__(
        self, service: str, store: Path, folder: Path, options: Sequence[str] = (), name: str = ""
    ) -> None:
        """Starts it and waits until it is healthy.

        Args:
            service: A package of `services`.
            store: Whose models it serves, with the configuration of its run.
            folder: For its log.
            options: More of its command line.
            name: Default: `service`.

        Raises:
            CampaignError: It ended, or is not healthy in time.
        """
        self.name = name or service
        self._log = folder / f"{self.name}.log"
        targets = folder / f"{self.name}.json"
        targets.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"services.{service}", "serve", "--end-with-input"]
        command += ["--config", str(store / "run" / "config.yaml"), "--store", str(store)]
        command += ["--metrics-port", "0", "--metrics-targets", str(targets), *options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # an interrupt reaches the campaign only
            )
        try:
            said = self._until(lambda: re.search(r"^listening on (\S+)$", self.log(), flags=re.M))
            assert said is not None
            self.address = said[1]
            self.metrics_address = self._until(lambda: addresses(folder).get(self.name, ""))
            self._wait_until_healthy()
        except BaseException:
            self._process.kill()
            raise
        self._ready = len(self.log())

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def log_of_calls(self) -> str:
        """What it has written since it was ready."""
        return self.log()[self._ready :]

    def size(self) -> tuple[int, int]:
        """Its resident memory in bytes, and its number of threads.

        Raises:
            CampaignError: It has ended.
        """
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            status = ""
        found = re.search(r"VmRSS:\s+(\d+) kB.*Threads:\s+(\d+)", status, flags=re.S)
        if found is None:
            raise CampaignError(f"{self.name} has ended: {self.log()[-2000:]}")
        return int(found[1]) * 1024, int(found[2])

    def stop(self) -> int:
        """Asks it to end; its exit code, or -9 where it did not and was killed."""
        if self.alive:
            self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_healthy(self) -> bool:
        with connect(self.address, health_service=None) as channel:
            stub, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()

            def serving() -> bool:
                try:
                    status = stub.Check(request, timeout=5.0, wait_for_ready=True).status
                except grpc.RpcError:
                    return False
                return bool(status == health_pb2.HealthCheckResponse.SERVING)

            return self._until(serving)

    def _until(self, there: Callable[[], T]) -> T:
        deadline = time.monotonic() + START_SECONDS
        while not (found := there()):
            if not self.alive or time.monotonic() > deadline:
                raise CampaignError(f"{self.name} did not start: {self.log()[-2000:]}")
            time.sleep(0.1)
        return found
