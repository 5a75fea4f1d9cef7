"""Writers killed with SIGKILL at random moments, and readers that look all the while."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.store import Meta, Store, StoreError, open_latents

# Imports once, then forks one writer after the other and kills each at a random moment.
KILLER = """
import os, random, signal, sys, time
import numpy as np
from common.store import LatentWriter, Meta, Store
from common.store import latent_writer

store = Store(sys.argv[1])
latent_writer.CHUNK_BYTES = 4096
random.seed(int(sys.argv[3]))

def publish(number):
    size = 200_000
    weights = {"a": np.full(size, number, np.float32), "b": np.full(size, -number, np.float32)}
    store.publish(Meta(kind="vae", details={"number": number}), weights, "c")

def write_latents(number):
    rows = 2000
    column = np.full(rows, number, np.float32)
    wide = np.repeat(column[:, None], 4, 1)
    kinds = dict.fromkeys(["state", "latent_mean", "latent_std", "next_state"], 4)
    kinds |= {"reward": 0, "discount": 0}
    columns = {name: (np.float32, (width,) if width else ()) for name, width in kinds.items()}
    columns |= {"episode": (np.int64, ()), "step": (np.int64, ()), "validation": (bool, ())}
    meta = Meta(kind="latents", parents={"vae": f"v{number}"}, details={"number": number})
    with LatentWriter(store, meta, rows, columns) as writer:
        for start in range(0, rows, 500):
            part = {
                name: (wide if shape else column)[start:start + 500].astype(dtype)
                for name, (dtype, shape) in columns.items()
            }
            writer.write(start, **part)
        writer.publish()

work = {"artifact": publish, "latents": write_latents}[sys.argv[2]]
kills = 0
for number in range(1, int(sys.argv[4]) + 1):
    child = os.fork()
    if child == 0:
        work(number)
        os._exit(0)
    time.sleep(random.uniform(0, float(sys.argv[5])))
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
work(0)
print(kills)
"""


def start(root: Path, what: str, rounds: int, longest: float) -> subprocess.Popen[str]:
    arguments = [str(root), what, "1", str(rounds), str(longest)]
    return subprocess.Popen(
        [sys.executable, "-c", KILLER, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_reader_never_sees_half_of_an_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writer = start(tmp_path, "artifact", 40, 0.05)
    seen = set()
    while writer.poll() is None:
        for version in store.versions("vae"):
            store.load("vae", version)
        current = store.current("vae")
        if current is not None:
            artifact = store.load("vae", current)
            number = artifact.meta.details["number"]
            assert isinstance(number, int)
            assert (artifact.tensors["a"] == number).all()
            assert (artifact.tensors["b"] == -number).all()
            seen.add(number)
    assert writer.stdout is not None
    kills = int(writer.stdout.read())
    assert writer.returncode == 0
    assert kills > 0
    assert seen
    current = store.current("vae")
    assert current is not None
    assert store.meta("vae", current).details == {"number": 0}


def test_a_reader_never_sees_half_of_the_latents(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writer = start(tmp_path, "latents", 12, 0.4)
    while writer.poll() is None:
        version = store.current("latents")
        if version is None:
            continue
        table, meta = open_latents(store, version), store.meta("latents", version)
        number = meta.details["number"]
        assert meta.parents["vae"] == f"v{number}"
        for column in (
            table.state,
            table.latent_std,
            table.reward,
            table.episode,
            table.validation,
        ):
            assert len(column) == 2000
            np.testing.assert_array_equal(column, np.full_like(column, number))
    assert writer.stdout is not None
    assert int(writer.stdout.read()) > 0
    assert writer.returncode == 0
    current = store.current("latents")
    assert current is not None
    assert store.meta("latents", current).details == {"number": 0}


HOLD = """
import sys, time
import numpy as np
from common.store import LatentWriter, Meta, Store
writer = LatentWriter(Store(sys.argv[1]), Meta(kind="latents"), 10, {"reward": (np.float32, ())})
writer.write(0, reward=np.ones(5))
print("ready", flush=True)
time.sleep(60)
"""


def test_the_writers_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    from common.store import LatentWriter

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        store = Store(tmp_path)
        with pytest.raises(StoreError, match=f"being written by process {holder.pid} on "):
            LatentWriter(store, Meta(kind="latents"), 10, {"reward": (np.float32, ())})
    finally:
        holder.kill()
        holder.wait()
    with LatentWriter(store, Meta(kind="latents"), 3, {"reward": (np.float32, ())}) as writer:
        writer.write(0, reward=np.arange(3))
        writer.publish()
    assert store.versions("latents") == [writer.version]
