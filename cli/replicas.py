"""How many prior servers a run shall have: written by `ldcq scale`, followed by the supervisor."""

from __future__ import annotations

from pathlib import Path

from common.store.files import replace_atomically

_PREFIX = "replicas."


class WantedReplicas:
    """One number per variant, each in a file of its own in the folder of the run.

    Files, so that whoever writes needs nothing of a run that may be busy, and a number written
    twice or too late does no harm.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def variants(self) -> list[str]:
        """The variants that have prior servers of their own."""
        names = (path.name for path in self._folder.glob(f"{_PREFIX}*"))
        return sorted(name.removeprefix(_PREFIX) for name in names)

    def get(self, variant: str) -> int | None:
        """The number wanted; None where none, or nonsense, is written."""
        try:
            return int((self._folder / f"{_PREFIX}{variant}").read_text())
        except (OSError, ValueError):
            return None

    def set(self, variant: str, count: int) -> None:
        """Asks for `count` prior servers."""
        replace_atomically(self._folder / f"{_PREFIX}{variant}", f"{count}\n".encode())

    def clear(self) -> None:
        """Forgets everything: a run starts with what its own command says."""
        for path in self._folder.glob(f"{_PREFIX}*"):
            path.unlink(missing_ok=True)
