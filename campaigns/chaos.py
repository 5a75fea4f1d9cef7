"""`make chaos`: small runs in which processes are killed, ended and stopped at random, the disk
fills up, the store becomes read-only and CURRENT moves: every run ends with the same critic, bit
for bit, and leaves nothing behind.

    python -m campaigns.chaos --faults 1000 --json
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml
from rich.console import Console

from campaigns.result import CampaignResult, JsonOption
from campaigns.serving import TINY
from cli import record
from common.rpc.conformance import CheckResult
from common.store import Store, StoreError

CONFIGURATION = {
    "base": str(TINY),
    "name": "chaos",
    "horizon": 5,
    "data": {
        "dataset": "ldcq/chaos-v0",
        "observation_keys": None,
        "goal_indices": [],
        "generate": {"kind": "random_walk", "steps": 4000},
    },
    "vae": {"epochs": 4},
    "prior": {"epochs": 4},
    "evaluation": {"episodes": 2, "environments": 2, "methods": {"ldcq": {"policy": "ldcq"}}},
    "variants": {},
}
KINDS = ("vae", "prior", "critic", "evaluation")
"""What has to come out as in the undisturbed run."""
DISK_BYTES = 64 << 20
FAULTS_PER_RUN = 20
EVERY_KIND = 100
"""Faults from which on each kind has to be among them."""
PATIENCE = 300.0
"""Seconds that a run may take without another fault."""
EXPECTED = {
    0: "done",
    2: "refused",
    143: "SIGTERM",
    -signal.SIGTERM: "SIGTERM",
    -signal.SIGKILL: "SIGKILL",
}
"""How the launcher may end under faults."""


class Run:
    """One store and the launcher that is started on it until it ends in order.

    Args:
        folder: Of the store, the configuration and the temporary folder.
        disk: Whether the store has a small disk of its own, to be filled and made read-only.
    """

    def __init__(self, folder: Path, disk: bool) -> None:
        self.folder, self.disk = folder, disk
        self.store, self.temporary = folder / "disk" / "store", folder / "tmp"
        self.store.parent.mkdir(parents=True)
        self.temporary.mkdir()
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(CONFIGURATION))
        if disk:
            _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.store.parent))
        self.starts = 0

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Starts the launcher; what it prints is in `out` and `err` of the folder."""
        self.starts += 1
        command = [sys.executable, "-m", "cli.main", "run", str(self.config), "--json", *options]
        command += ["--store", str(self.store), "--replicas", "2"]
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("ab") as err:
            return subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """The launcher's services that are alive."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(self.store).encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
        return found

    def versions(self) -> dict[str, str]:
        """What the finished run made, by kind: its evaluation and what that was made from."""
        try:
            version = str(json.loads((self.folder / "out").read_text())["evaluation_version"])
            parents = Store(self.store).load("evaluation", version).meta.parents
        except (ValueError, KeyError, StoreError) as error:
            return {"evaluation": f"none ({error})"}
        found = {kind: parents.get(kind, "none") for kind in KINDS[:-1]}
        for kind, of in found.items():
            with suppress(StoreError):
                Store(self.store).load(kind, of)
                continue
            found[kind] = f"{of}, damaged"
        return {**found, "evaluation": version}

    def leftovers(self) -> list[str]:
        """What a run that ended in order must not leave."""
        deadline = time.monotonic() + 20
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        found = [f"process {pid}" for pid in self.processes()]
        found += [f"{path}" for path in self.temporary.glob("ldcq-*")]
        found += [f"{path}" for path in self.store.rglob("*.sock")]
        if (self.store / "run" / "processes.json").exists():
            found.append("run/processes.json")
        locks = [self.store / "run" / "lock", self.store / ".datasets.lock"]
        for lock in (*locks, *self.store.glob("*/.*.lock")):
            with suppress(FileNotFoundError), lock.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(f"{lock} is held")
        staged = [*self.store.glob("datasets/.writing-*"), *self.store.glob("artifacts/*/.tmp-*")]
        staged += [path for path in self.store.glob("latents/.*") if path.is_dir()]
        return found + [str(path) for path in staged]

    def traces(self) -> list[str]:
        """Tracebacks in what the launcher and its services said."""
        files = [self.folder / "err", *self.store.glob("run/*.log")]
        found = []
        for file in files:
            text = file.read_text(errors="replace") if file.exists() else ""
            _, trace, rest = text.partition("Traceback (most recent call last):")
            # HDF5 complains so, and ends its process, where the disk fills up under it.
            if trace and "h5py" not in rest[:200]:
                found.append(f"{file.name}: {trace}{rest[:1500]}")
        return found

    def close(self) -> None:
        """Ends what is left and gives the disk back."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
        if self.disk:
            subprocess.run(["umount", "--lazy", self.store.parent], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


Fault = Callable[[Run, subprocess.Popen[bytes]], None]


class Faults:
    """What happens to a run, at random.

    Attributes:
        counts: How often each happened.
    """

    def __init__(self, seed: int, decoys: Path) -> None:
        self._random, self._decoys = np.random.default_rng(seed), decoys
        self.counts: Counter[str] = Counter()

    def pause(self, mean: float) -> float:
        """Seconds until the next."""
        return float(self._random.uniform(0.1, 2 * mean))

    def strike(self, run: Run, launcher: subprocess.Popen[bytes]) -> None:
        """One of them, which is over, or undone, when this returns."""
        # What makes the launcher begin again is rarer, or no run would come far.
        often: list[Fault] = [self._kill, self._end, self._stop, self._move_current]
        known = often * 3
        known += [self._kill_launcher, self._end_launcher, self._stop_launcher]
        if run.disk:
            known += [self._fill, self._read_only]
        before = self.counts.total()
        while self.counts.total() == before and launcher.poll() is None:
            known[self._random.integers(len(known))](run, launcher)
            time.sleep(0.05)

    def _kill(self, run: Run, _: subprocess.Popen[bytes]) -> None:
        self._signal(run, signal.SIGKILL, "kill -9 of a process")

    def _end(self, run: Run, _: subprocess.Popen[bytes]) -> None:
        self._signal(run, signal.SIGTERM, "SIGTERM of a process")

    def _stop(self, run: Run, _: subprocess.Popen[bytes]) -> None:
        self._signal(run, signal.SIGSTOP, "SIGSTOP and SIGCONT of a process")

    def _kill_launcher(self, _: Run, launcher: subprocess.Popen[bytes]) -> None:
        launcher.kill()
        self.counts["kill -9 of the launcher"] += 1

    def _end_launcher(self, _: Run, launcher: subprocess.Popen[bytes]) -> None:
        launcher.terminate()
        self.counts["SIGTERM of the launcher"] += 1

    def _stop_launcher(self, _: Run, launcher: subprocess.Popen[bytes]) -> None:
        launcher.send_signal(signal.SIGSTOP)
        self._hold()
        launcher.send_signal(signal.SIGCONT)
        self.counts["SIGSTOP and SIGCONT of the launcher"] += 1

    def _signal(self, run: Run, number: signal.Signals, name: str) -> None:
        there = [item["pid"] for item in _recorded(run.store / "run") if record.is_running(item)]
        if not there:
            return
        pid = there[self._random.integers(len(there))]
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            self.counts[name] += 1
            if number == signal.SIGSTOP:
                self._hold()
                os.kill(pid, signal.SIGCONT)

    def _fill(self, run: Run, _: subprocess.Popen[bytes]) -> None:
        ballast = run.store.parent / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        self._hold()
        ballast.unlink(missing_ok=True)
        self.counts["disk full"] += 1

    def _read_only(self, run: Run, _: subprocess.Popen[bytes]) -> None:
        if not run.store.is_dir():
            return
        # On top of it: files that are open for writing would forbid to change the disk itself.
        _mount("--bind", str(run.store), str(run.store))
        _mount("-o", "remount,bind,ro", str(run.store))
        self._hold()
        subprocess.run(["umount", "--lazy", run.store], check=True)
        self.counts["store read-only and back"] += 1

    def _move_current(self, run: Run, _: subprocess.Popen[bytes]) -> None:
        kinds = [kind for kind in ("vae", "latents", "prior", "critic") if _has(run.store, kind)]
        if not kinds:
            return
        kind = kinds[self._random.integers(len(kinds))]
        decoys = Store(self._decoys)
        version = decoys.current(kind)
        assert version is not None
        store = Store(run.store)
        if version not in store.versions(kind):
            shutil.copytree(decoys.folder(kind) / version, store.folder(kind) / version)
        store.point(kind, version)
        self.counts["CURRENT moved"] += 1

    def _hold(self) -> None:
        time.sleep(self._random.uniform(0.1, 1.5))


def run(
    faults: int, seed: int, pause: float | None, folder: Path, say: Callable[[str], object]
) -> CampaignResult:
    """Runs until so many faults have happened, each run to its end.

    Args:
        faults: How many at least.
        seed: Of what happens when.
        pause: Seconds between two faults, on average; None: a tenth of an undisturbed run, so that
            every part of it is disturbed.
        folder: Empty; everything goes there.
        say: Told how far it is.
    """
    disk = _can_mount(folder)
    started = time.monotonic()
    calm = _calm(folder / "calm", say, "the undisturbed run")
    pause = pause or (time.monotonic() - started) / 10
    expected = calm.versions()
    decoy = _calm(folder / "decoys", say, "another run, whose versions CURRENT is moved to", seed=1)
    striking = Faults(seed, decoy.store)
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    left: list[str] = []
    traces: list[str] = []
    stuck: list[str] = []
    runs = 0
    while striking.counts.total() < faults and not stuck:
        runs += 1
        disturbed = Run(folder / f"run-{runs}", disk)
        try:
            problem = _disturb(disturbed, striking, min(FAULTS_PER_RUN, faults), pause, ends)
            if problem:
                stuck.append(f"run {runs}: {problem}")
            else:
                found = disturbed.versions()
                wrong += [
                    f"run {runs}: {kind} {found.get(kind)}, expected {expected[kind]}"
                    for kind in KINDS
                    if found.get(kind) != expected[kind]
                ]
                left += [f"run {runs}: {what}" for what in disturbed.leftovers()]
            traces += [f"run {runs}: {trace}" for trace in disturbed.traces()]
        finally:
            disturbed.close()
        say(f"{striking.counts.total()} of {faults} faults, {runs} runs, {disturbed.starts} starts")
    for each in (calm, decoy):
        each.close()
    checks = [
        CheckResult("every run ends", not stuck, "; ".join(stuck) or f"{runs} runs"),
        CheckResult(
            "every critic is that of the undisturbed run, bit for bit",
            not wrong and set(expected) == set(KINDS) and runs > 0,
            "; ".join(wrong) or ", ".join(f"{kind} {expected.get(kind)}" for kind in KINDS),
        ),
        CheckResult(
            "nothing is left behind",
            not left,
            "; ".join(left) or "no process, lock, record, socket or temporary folder",
        ),
        CheckResult("no traceback", not traces, "\n".join(traces) or "in no output and no log"),
        CheckResult(
            "enough happened",
            striking.counts.total() >= faults
            and (faults < EVERY_KIND or len(striking.counts) == (9 if disk else 7)),
            f"{striking.counts.total()} faults of {len(striking.counts)} kinds",
        ),
    ]
    settings = {"faults": faults, "seed": seed, "pause": round(pause, 1), "small_disk": disk}
    figures = {
        **{"faults": dict(sorted(striking.counts.items())), "runs": runs},
        **{"launcher_ended": dict(sorted(ends.items()))},
        "seconds": round(time.monotonic() - started),
    }
    return CampaignResult("chaos", settings, {"happened": figures.pop("faults"), **figures}, checks)


def _calm(folder: Path, say: Callable[[str], object], what: str, seed: int = 0) -> Run:
    say(what)
    calm = Run(folder, disk=False)
    launcher = calm.start("--set", f"seed={seed}")
    if launcher.wait(PATIENCE):
        raise RuntimeError(f"{what} failed: {(folder / 'err').read_text()[-2000:]}")
    return calm


def _disturb(run: Run, striking: Faults, most: int, pause: float, ends: Counter[str]) -> str:
    """Starts a run again and again until it ends in order.

    Returns:
        Why that did not come about; empty: it did.
    """
    before, launcher = striking.counts.total(), run.start()
    due = time.monotonic() + striking.pause(pause)
    deadline = time.monotonic() + PATIENCE
    while True:
        code = launcher.poll()
        if code is not None:
            ends[EXPECTED.get(code, str(code))] += 1
            if code == 0:
                return ""
            if code not in EXPECTED:
                return f"the launcher ended with {code}: {(run.folder / 'err').read_text()[-2000:]}"
            if time.monotonic() > deadline:
                return f"not done: {(run.folder / 'err').read_text()[-2000:]}"
            launcher = run.start()
        elif time.monotonic() > deadline:
            launcher.kill()
            return f"hangs: {(run.folder / 'err').read_text()[-2000:]}"
        elif time.monotonic() > due and striking.counts.total() - before < most:
            striking.strike(run, launcher)
            due = time.monotonic() + striking.pause(pause)
            deadline = time.monotonic() + PATIENCE
        time.sleep(0.05)


def _recorded(folder: Path) -> list[record.Process]:
    try:
        return record.read(folder)
    except ValueError:
        return []


def _has(store: Path, kind: str) -> bool:
    folder = store / ("latents" if kind == "latents" else f"artifacts/{kind}")
    return (folder / "CURRENT").is_file()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _can_mount(folder: Path) -> bool:
    probe = folder / "probe"
    probe.mkdir()
    try:
        _mount("-t", "tmpfs", "tmpfs", str(probe))
    except (subprocess.CalledProcessError, OSError):
        return False
    subprocess.run(["umount", probe], check=True)
    return True


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def main(
    faults: Annotated[int, typer.Option(min=1, help="How many at least.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of what happens when.")] = 0,
    pause: Annotated[
        float | None,
        typer.Option(min=0.1, help="Mean seconds between faults; default: a tenth of a run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run small configurations to their end while processes, disk and store fail at random."""
    console = Console(stderr=True)
    with _folder() as folder:
        result = run(faults, seed, pause, folder, lambda text: console.print(text, markup=False))
    raise typer.Exit(result.show(as_json))


if __name__ == "__main__":
    typer.run(main)
