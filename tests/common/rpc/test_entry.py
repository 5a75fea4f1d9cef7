"""What a service process makes of its arguments, and what it says when it cannot."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.rpc.entry import main, prior_targets
from common.rpc.errors import CallError
from common.rpc.server import ServerError
from common.rpc.settings import ServiceSettings
from ldcq.config import ConfigError
from ldcq.learning.learner import Stopped


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class _Service:
    """Keeps what it was started with, and then does what the test wants."""

    def __init__(self, outcome: int | Exception = 0) -> None:
        self.outcome = outcome
        self.settings: ServiceSettings | None = None
        self.trained = False

    def serve(self, settings: ServiceSettings, on_start: Callable[[str], None]) -> int:
        on_start("127.0.0.1:7")
        return self._end(settings)

    def train(self, settings: ServiceSettings) -> int:
        self.trained = True
        return self._end(settings)

    def _end(self, settings: ServiceSettings) -> int:
        self.settings = settings
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def run(self, *arguments: str) -> object:
        with pytest.raises(SystemExit) as caught:
            main("prior", serve=self.serve, train=self.train, argv=arguments)
        return caught.value.code


def test_arguments_become_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = _Service()
    code = service.run(
        *("serve", "--config", "demo", "--set", "vae.epochs=3", "-s", "seed=9"),
        *("--store", str(tmp_path / "store"), "--variant", "bcq_h", "--listen", "127.0.0.1:0"),
        *("--metrics-host", "127.0.0.2"),
        *("--metrics-port", "0", "--metrics-targets", str(tmp_path / "prior-0.json")),
        *("--prior", "a:1,b:2", "--prior", "bcq_h=dns:///c:3", "--train"),
    )
    assert code == 0
    settings = service.settings
    assert settings is not None
    assert (settings.config.vae.epochs, settings.config.seed) == (3, 9)
    assert settings.store.root == tmp_path / "store"
    assert settings.variant == "bcq_h"
    assert settings.prior_targets == {"main": "a:1,b:2", "bcq_h": "dns:///c:3"}
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.2", 0)
    assert settings.metrics_targets == tmp_path / "prior-0.json"
    assert settings.train_first
    assert not service.trained
    assert capsys.readouterr().out == "listening on 127.0.0.1:7\n"


def test_train_trains_and_returns_its_code(tmp_path: Path) -> None:
    service = _Service(1)
    assert service.run("train", "--config", "demo", "--store", str(tmp_path)) == 1
    assert service.trained
    assert service.settings is not None
    assert not service.settings.train_first
    assert service.settings.metrics_port is None


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (ServerError("cannot listen on x: in use"), 2, "error: cannot listen on x: in use\n"),
        (CallError("prior at y: refused"), 2, "error: prior at y: refused\n"),
        (Stopped("stopped after 3 steps"), 143, "stopped after 3 steps\n"),
    ],
)
def test_what_explains_itself_is_one_line_and_a_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcome: Exception,
    code: int,
    message: str,
) -> None:
    service = _Service(outcome)
    assert service.run("serve", "--config", "demo", "--store", str(tmp_path)) == code
    assert capsys.readouterr().err == message


def test_a_mistake_in_the_code_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        main(
            "prior",
            serve=_Service(ZeroDivisionError()).serve,
            argv=["serve", "--config", "demo", "--store", str(tmp_path)],
        )


def test_bad_configuration_and_bad_store_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = _Service()
    assert service.run("serve", "--config", "dmeo", "--store", str(tmp_path)) == 2
    assert "configuration 'dmeo' not found" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert service.run("serve", "--config", "demo", "--store", str(tmp_path / "file")) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert service.settings is None


def test_a_service_without_training_has_no_train(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main("actor", serve=_Service().serve, argv=["train", "--config", "demo", "--store", "x"])
    assert "invalid choice: 'train'" in capsys.readouterr().err


def test_options_of_an_endpoint_that_is_not_asked_for_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = _Service()
    arguments = ("serve", "--config", "demo", "--store", str(tmp_path))
    for option in ("--metrics-targets", "--metrics-host"):
        assert service.run(*arguments, option, "127.0.0.1") == 2
        assert f"{option} is given, expected --metrics-port too" in capsys.readouterr().err
    assert service.settings is None


@pytest.mark.parametrize("option", ["=host:1", "main=", ""])
def test_half_a_prior_target_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="expected \\[VARIANT=\\]TARGET"):
        prior_targets([option])


def test_one_variant_has_one_prior_target() -> None:
    with pytest.raises(ConfigError, match="'main' is given twice"):
        prior_targets(["a:1", "main=b:2"])


def test_logs_are_one_json_object_a_line_when_asked() -> None:
    script = (
        "import logging\n"
        "from common.rpc.log_format import configure_logging\n"
        "configure_logging('json')\n"
        "logging.getLogger('services.vae').warning('lost %d of\\n%s', 3, 'five')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.exception('failed')\n"
        "[][1]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    warning, failure, end = (json.loads(line) for line in done.stderr.splitlines())
    assert (warning["level"], warning["logger"]) == ("warning", "services.vae")
    assert warning["message"] == "lost 3 of\nfive"
    assert "ZeroDivisionError" in failure["exception"]
    assert "IndexError" in end["exception"]
    assert done.returncode == 1


def test_a_process_that_logs_json_prints_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.vae", "serve", "--config", "demo"]
    done = subprocess.run(
        [*command, "--store", str(tmp_path), "--listen", "nowhere"],
        env={**os.environ, "LDCQ_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    *_, last = (json.loads(line) for line in done.stderr.splitlines())
    assert last["level"] == "error"
    assert "cannot listen on nowhere" in last["message"]


def test_the_modules_a_thin_client_needs_load_no_torch() -> None:
    script = (
        "import sys, common.rpc.entry, common.rpc.clients, common.rpc.server, common.rpc.stage\n"
        "import common.rpc.conformance\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
