"""Where datasets lie, and which data are there now.

To read data takes time, and libraries that some processes lack. Whoever reads them keeps their
fingerprint together with the state of their files; all others look it up here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import JsonValue

from common.store.errors import StoreError
from common.store.files import refusal, replace_atomically
from common.store.meta import digest
from ldcq.config import DataConfig
from ldcq.config.reward import OgbenchReward


class UnreadDataError(StoreError):
    """The files of a dataset are others than those whose fingerprint is known, or are gone and
    will be generated anew.
    """


def roots(store_root: Path) -> tuple[Path, Path]:
    """Where datasets are looked for: the store's own, then Minari's, which is not created."""
    given = os.environ.get("MINARI_DATASETS_PATH")
    return store_root / "datasets", Path(given or Path.home() / ".minari" / "datasets")


def dataset_path(store_root: Path, dataset: str) -> Path | None:
    """The folder of a dataset on this machine, None if there is none."""
    for root in roots(store_root):
        if (root / dataset / "data" / "metadata.json").is_file():
            return root / dataset
    return None


def stamp(config: DataConfig, store_root: Path) -> str | None:
    """What changes when a dataset is written anew, and stays when it is copied with its times: a
    digest of the sizes and times of its files. None where it is not on this machine.
    """
    if config.is_file:
        folder: Path | None = Path(config.dataset).expanduser()
        files = [folder] if folder and folder.is_file() else []
    else:
        folder = dataset_path(store_root, config.dataset)
        files = [] if folder is None else sorted(folder.rglob("*"))
    known = [(file.name, file.stat()) for file in files if file.is_file()]
    state: list[JsonValue] = [[n, s.st_size, s.st_mtime_ns] for n, s in known]
    return digest(state) if state else None


def known_fingerprint(config: DataConfig, store_root: Path) -> str | None:
    """The fingerprint of a dataset as its files are now; None where they are not on this machine,
    or were never read here.

    Raises:
        UnreadDataError: The files have changed since they were read, or are to be generated anew.
    """
    found = stamp(config, store_root)
    try:
        known = json.loads(_record(config, store_root).read_text())
        files, fingerprint = known["files"], str(known["fingerprint"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    if found is None:
        if config.generate is not None:
            raise UnreadDataError(f"{config.dataset} was here and is gone")
        return None
    if files != found:
        raise UnreadDataError(f"{config.dataset} has changed since it was read last")
    return fingerprint


def keep_fingerprint(
    config: DataConfig, store_root: Path, files: str | None, fingerprint: str
) -> None:
    """Remembers the fingerprint of the data in files of this `stamp`, taken before they were read,
    in a store that is there and can be written.

    Raises:
        StoreError: The disk does not take it.
    """
    path = _record(config, store_root)
    if files is None or not os.access(store_root, os.W_OK):
        return
    content = {"dataset": config.dataset, "files": files, "fingerprint": fingerprint}
    try:
        path.parent.mkdir(exist_ok=True)
        replace_atomically(path, json.dumps(content).encode())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {refusal(error)}") from error


def _record(config: DataConfig, store_root: Path) -> Path:
    # What decides how files become episodes.
    deciding = {"dataset", "observation_keys", "episode_steps"}
    if isinstance(config.reward, OgbenchReward):
        deciding |= {"reward"}
    name = digest(config.model_dump(mode="json", include=deciding))
    return store_root / "fingerprints" / f"{name}.json"
