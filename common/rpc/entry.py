"""What every service process does first: read its arguments and its configuration."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from common.rpc.channel import check
from common.rpc.log_format import LogFormat, configure_logging
from common.rpc.settings import IN_PROCESS, ServiceSettings
from common.rpc.tracing import configure_tracing
from common.store import Store
from common.store.files import DISK_ERRORS, refusal
from ldcq.config import ConfigError, load
from ldcq.learning.learner import Stopped

_LOGGER = logging.getLogger(__name__)

LOG_FORMAT_VARIABLE = "LDCQ_LOG_FORMAT"
"""Environment variable with the log format of processes whose command line names none."""

EXIT_REFUSED = 2
"""Exit code of a process that cannot do what it was asked, and could not the next time."""

EXIT_STOPPED = 143
"""Exit code of a process that SIGTERM ended before its work was done."""

_OWN_PACKAGES = {"ldcq", "common", "services", "cli", "experiments", "benchmarks"}


class Serve(Protocol):
    """Serves until asked to stop; calls `on_start` with the address; returns the exit code."""

    def __call__(self, settings: ServiceSettings, on_start: Callable[[str], None]) -> int: ...


Train = Callable[[ServiceSettings], int]


def main(
    name: str,
    *,
    serve: Serve | None = None,
    train: Train | None = None,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """The command line of `python -m services.<name>`; ends the process with the exit code."""
    options = vars(_parser(name, serve is not None, train is not None).parse_args(argv))
    serves = options.pop("action") == "serve"
    if options.pop("end_with_input"):
        threading.Thread(target=_end_with_input, name="input", daemon=True).start()

    def train_only(settings: ServiceSettings, on_start: Callable[[str], None]) -> int:
        del on_start  # whoever watches a trainer chose its address
        assert train is not None
        return train(settings)

    threading.excepthook = _thread_failed  # TensorBoard writes in a thread of its own
    os.environ.setdefault("OTEL_SERVICE_NAME", f"ldcq-{name}")
    sys.exit(run_service(serve if serve is not None and serves else train_only, **options))


def run_service(
    serve: Serve,
    *,
    config: str,
    overrides: Sequence[str] = (),
    store: str,
    variant: str = "main",
    listen: str = "127.0.0.1:0",
    metrics_port: int | None = None,
    metrics_host: str | None = None,
    metrics_targets: Path | None = None,
    prior: Sequence[str] = (),
    train_first: bool = False,
    as_configured: bool = False,
    log_format: LogFormat = "text",
) -> int:
    """Runs one service in this process, with the options of its command line.

    Returns:
        The exit code: the service's own, 2 with one line on standard error where an error of this
        project says what to do, 143 when the process was asked to stop before its work was done.
    """
    configure_logging(log_format)
    try:
        configure_tracing()
        for option, given in (("targets", metrics_targets), ("host", metrics_host)):
            if given is not None and metrics_port is None:
                raise ConfigError(f"--metrics-{option} is given, expected --metrics-port too")
        settings = ServiceSettings(
            config=load(config, overrides),
            store=Store(store),
            variant=variant,
            listen=listen,
            metrics_port=metrics_port,
            metrics_host=metrics_host,
            metrics_targets=metrics_targets,
            prior_targets=prior_targets(prior),
            train_first=train_first,
            as_configured=as_configured,
        )
        # The server logs its address as well, in the format asked for.
        return serve(settings, on_start=_announce if log_format == "text" else lambda _: None)
    except Stopped as stopped:
        _tell(log_format, logging.INFO, str(stopped))
        return EXIT_STOPPED
    except Exception as error:
        explained = explanation(error)
        if explained is None:
            raise
        _tell(log_format, logging.ERROR, f"error: {explained}")
        return EXIT_REFUSED


def prior_targets(options: Sequence[str]) -> dict[str, str]:
    """`[VARIANT=]TARGET` options by variant; a target without one is the main pipeline's.

    Raises:
        ConfigError: A variant or a target is empty, or a variant is named twice.
        TargetError: A target is no address.
    """
    targets: dict[str, str] = {}
    for option in options:
        variant, separator, target = option.partition("=")
        if not separator:
            variant, target = "main", option
        if not variant or not target:
            raise ConfigError(
                f"--prior {option}: expected [VARIANT=]TARGET, as in main=prior:50051"
            )
        if variant in targets:
            raise ConfigError(f"--prior {option}: {variant!r} is given twice, expected once")
        if target != IN_PROCESS:
            check(target)
        targets[variant] = target
    return targets


def explanation(error: Exception) -> str | None:
    """What an error says to people: the message of one of this project's, or which file the disk
    refused and what to do. None: it is a mistake in the code, whose traceback is needed.
    """
    if type(error).__module__.partition(".")[0] in _OWN_PACKAGES:
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"{error.filename or 'a file'}: {refusal(error)}"
    return None


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    error = failed.exc_value
    explained = explanation(error) if isinstance(error, Exception) else None
    if explained is None:
        threading.__excepthook__(failed)
    else:
        _LOGGER.error("%s", explained)


def _end_with_input() -> None:
    """A launcher holds the other end of the pipe: it closes however the launcher ends."""
    with open(0, "rb", buffering=0, closefd=False) as stream:
        while stream.read(4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(log_format: LogFormat, level: int, message: str) -> None:
    """The last word of a process: as it is for people, a record for a collector."""
    if log_format == "text":
        print(message, file=sys.stderr)
    else:
        _LOGGER.log(level, "%s", message.removeprefix("error: "))


def _announce(address: str) -> None:
    print(f"listening on {address}", flush=True)


def _parser(name: str, serves: bool, trains: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}")
    actions = parser.add_subparsers(dest="action", required=True)
    if trains:
        _add_options(actions.add_parser("train", help="train, publish and exit"))
    if not serves:
        return parser
    serve = actions.add_parser("serve", help="answer calls until stopped")
    if trains:
        text = "train and publish before serving"
        serve.add_argument("--train", dest="train_first", action="store_true", help=text)
    text = "serve what was made with the configuration, not what is current"
    serve.add_argument("--as-configured", action="store_true", help=text)
    _add_options(serve)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", required=True, help="YAML file or preset")
    add(
        *("--set", "-s"),
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the configuration; repeatable",
    )
    add("--store", required=True, help="folder of the shared store")
    add("--variant", default="main", help="pipeline of the configuration")
    add("--listen", default="127.0.0.1:0", help="HOST:PORT (port 0: a free one) or unix:/path")
    add("--metrics-port", type=int, default=None, help="Prometheus endpoint (0: a free port)")
    add("--metrics-host", default=None, metavar="HOST", help="where it listens (as --listen)")
    add(
        "--metrics-targets",
        type=Path,
        default=None,
        metavar="FILE",
        help="write the address of that endpoint to FILE, in the file_sd format of Prometheus",
    )
    add(
        "--prior",
        action="append",
        default=[],
        metavar="[VARIANT=]TARGET",
        help=f"address of a prior service, or {IN_PROCESS}, to draw here; repeatable",
    )
    add(
        "--end-with-input",
        action="store_true",
        help="stop, as on SIGTERM, when standard input ends (with its launcher)",
    )
    add(
        "--log-format",
        choices=("text", "json"),
        default="json" if os.environ.get(LOG_FORMAT_VARIABLE) == "json" else "text",
        help=f"format of the log; default: ${LOG_FORMAT_VARIABLE}, or text",
    )
