"""The processes of a run: copies of one that has imported all services, so that each starts at once
and they share what is imported.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from setproctitle import setproctitle

from common.stages import STAGES

PRELOADED = (
    "cli.own_session",
    "cli.main",  # the copies look for what the launcher has run
    "torch._dynamo",  # torch.optim imports it with the first optimiser
    *(f"{stage.module}.__main__" for stage in STAGES.values() if stage.module),
)
UNKNOWN_CODE = 255
"""Exit code of a process that may live on: what it is a copy of was killed, and knew its fate."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([*PRELOADED])


class Lifeline:
    """The standard input of all processes of a launcher: it ends with it, however that ends."""

    def __init__(self) -> None:
        self._theirs, self._ours = _FORKS.Pipe(duplex=False)

    def start(self, name: str, module: str, arguments: tuple[str, ...], log: Path) -> BaseProcess:
        """Starts `python -m module arguments...`, in a session of its own: an interrupt in the
        terminal reaches the launcher only.

        Args:
            name: What the process is called, in the list of the system's processes too.
            module: What to run.
            arguments: Its command line.
            log: A file, to which it appends what it prints.

        Raises:
            OSError: The file cannot be written.
        """
        log.open("ab").close()
        given = (name, module, arguments, log, self._theirs, dict(os.environ))
        process = _FORKS.Process(target=_run, args=given, name=name)
        process.start()
        return process

    def close(self) -> None:
        """Ends the input of all that still run."""
        self._ours.close()
        self._theirs.close()


def _run(
    name: str,
    module: str,
    arguments: tuple[str, ...],
    log: Path,
    lifeline: Connection,
    environment: dict[str, str],
) -> None:
    """In the new process: becomes what a process of its own would be."""
    setproctitle(" ".join(("ldcq", name, *arguments)))  # overwrites the first environment
    os.setsid()
    os.dup2(lifeline.fileno(), 0)
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ.clear()  # of the first process of a launcher, which may have changed
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    sys.modules.pop(f"{module}.__main__", None)  # what was preloaded, which is run here
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without
