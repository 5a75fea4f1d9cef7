"""A Compose project on a real engine, for the tests that need one."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 900.0


def engine() -> Any:
    """The SDK's client of the engine here; skips the test, and says why, where there is none."""
    docker = pytest.importorskip("docker", reason="the docker SDK is not installed")
    try:
        found = docker.from_env(timeout=120)
        found.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers ({error}); start one, or set DOCKER_HOST")
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("docker has no Compose plugin")
    return found


class Stack:
    """One Compose project, on a free port.

    Args:
        engine: The SDK's client.
        name: The project's name.
        config: The configuration's path, as the containers see it.
        files: What is added to docker-compose.yml in every command.
    """

    def __init__(self, engine: Any, name: str, config: str, files: tuple[str, ...] = ()) -> None:
        self._engine, self._name, self.config, self._files = engine, name, config, files
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._environment = {
            **os.environ,
            "LDCQ_CONFIG": config,
            "LDCQ_ACTOR_PORT": str(self.port),
            "COMPOSE_PROFILES": "",
        }

    def compose(self, *arguments: str, files: tuple[str, ...] = (), **settings: str) -> str:
        """Runs `docker compose`, which must succeed; settings are variables of `.env`."""
        named = ("docker-compose.yml", *self._files, *files)
        options = [part for file in named for part in ("-f", file)]
        done = subprocess.run(
            ["docker", "compose", "-p", self._name, *options, *arguments],
            cwd=ROOT,
            env={**self._environment, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def containers(self, service: str, running: bool = True) -> list[Any]:
        """The containers of a service, by name."""
        labels = [
            f"com.docker.compose.project={self._name}",
            f"com.docker.compose.service={service}",
        ]
        found = self._engine.containers.list(all=not running, filters={"label": labels})
        return sorted(found, key=lambda container: str(container.name))

    def network(self) -> Any:
        """The one they share."""
        return self._engine.networks.get(f"{self._name}_default")

    def store(self, *command: str) -> str:
        """What a command prints in a container that has the store and outlives the tests."""
        code, output = self.containers("vae")[0].exec_run(list(command))
        return str(output.decode()).strip() if code == 0 else ""

    def current(self, kind: str) -> str:
        """The current version of an artifact; empty where there is none."""
        return self.store("cat", f"/store/artifacts/{kind}/CURRENT")

    def until(self, what: str, there: Callable[[], Any]) -> Any:
        """Waits; the containers' last words are in the error."""
        deadline = time.monotonic() + PATIENCE
        while not (found := there()):
            if time.monotonic() > deadline:
                pytest.fail(
                    f"{what}: not within {PATIENCE:g} s\n{self.compose('logs', '--tail=15')}"
                )
            time.sleep(0.5)
        return found

    def healthy(self, *services: str) -> bool:
        """Whether all containers of these services are."""
        states = [
            container.attrs["State"]["Health"]["Status"]
            for service in services
            for container in self.containers(service)
        ]
        return len(states) >= len(services) and set(states) == {"healthy"}
