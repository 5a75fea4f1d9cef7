"""Processes that are copies of one: what the original must not have done, and what copies are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cli.service_process import Lifeline

ORIGINAL = """
import importlib, threading, torch
def asked(*_):
    raise AssertionError("CUDA was asked for: a copy could not use it any more")
torch.cuda.is_available = torch.cuda.device_count = torch.cuda._lazy_init = asked
from cli.service_process import PRELOADED
for name in PRELOADED:
    importlib.import_module(name)
print(threading.active_count())
"""
WHAT_IT_IS = "tests.cli.test_service_process"


def test_what_is_imported_for_all_asks_for_no_gpu_and_starts_no_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORIGINAL], capture_output=True, text=True, check=False
    )
    assert done.stdout == "1\n", done.stderr


def test_a_copy_has_the_command_line_environment_and_input_of_a_process_of_its_own(
    tmp_path: Path,
) -> None:
    lifeline, log = Lifeline(), tmp_path / "log"
    for value in ("first", "second"):  # the original began with the environment of the first
        os.environ["LDCQ_TEST_COPY"] = value
        process = lifeline.start("toy", WHAT_IT_IS, ("--listen", "here"), log)
        if value == "second":
            lifeline.close()
            process.join(30)
            assert process.exitcode == 3
    del os.environ["LDCQ_TEST_COPY"]
    lines = log.read_text().splitlines()
    title = "ldcq toy --listen here"
    assert sorted(line for line in lines if line != "left") == [
        f"first True {title}",
        f"second True {title}",
    ]
    assert lines.count("left") == 2, "what is registered for the end is done"


def test_a_signal_to_the_launcher_s_group_leaves_the_original_to_the_launcher(
    tmp_path: Path,
) -> None:
    """`timeout`, systemd and a terminal that closes signal the group."""
    lifeline = Lifeline()
    process = lifeline.start(
        "toy", "tests.cli.toy", ("wait", "127.0.0.1:0", os.devnull), tmp_path / "log"
    )
    assert process.pid is not None
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    original = int(fields[1])
    assert os.getsid(original) == original != os.getsid(0)
    lifeline.close()
    process.kill()
    process.join()


if __name__ == "__main__":
    import atexit

    atexit.register(print, "left")
    title = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode()
    print(os.environ["LDCQ_TEST_COPY"], os.getsid(0) == os.getpid(), title, flush=True)
    with open(0, "rb") as given:
        given.read()
    sys.exit(3)
