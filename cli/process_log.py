"""What the log of a service process says that its user has to know: warnings, and why it failed."""

from __future__ import annotations

import re
from pathlib import Path

_RECORD = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) +(?P<logger>\S+): (?P<text>.*)")
_REFUSAL = "error: "
_OURS = ("common.", "ldcq.", "services.")
_TRACEBACK = "Traceback (most recent call last):"


class ProcessLog:
    """The log that one process appends to the file at `path`, from now on."""

    def __init__(self, path: Path) -> None:
        """Remembers where the file ends: what earlier processes wrote is none of this one's."""
        self.path = path
        self._start = self._read = path.stat().st_size if path.exists() else 0

    def new_warnings(self) -> list[str]:
        """Warnings of our own code in the whole lines written since the last call."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        records = (_RECORD.fullmatch(line) for line in whole.decode(errors="replace").splitlines())
        return [
            record["text"]
            for record in records
            if record and record["level"] == "WARNING" and record["logger"].startswith(_OURS)
        ]

    def reason(self, lines: int = 5) -> str:
        """Why the process ended: its last error, else its last lines.

        Of a traceback only the exception is given; the rest is in the file.
        """
        with self.path.open("rb") as file:
            file.seek(self._start)
            text = file.read().decode(errors="replace").strip().splitlines()
        errors = [index for index, line in enumerate(text) if _error(line) is not None]
        if not errors:
            return "\n".join(text[-lines:]) if text else "it printed nothing"
        first = errors[-1]
        after = range(first + 1, len(text))
        end = next((index for index in after if _RECORD.fullmatch(text[index])), len(text))
        message, rest = str(_error(text[first])), text[first + 1 : end]
        if _TRACEBACK in rest:
            return f"{message}: {rest[-1]}"
        return "\n".join([message, *rest])


def _error(line: str) -> str | None:
    """The message, if a line begins an error: a log record, or the last word of a refusal."""
    if line.startswith(_REFUSAL):
        return line.removeprefix(_REFUSAL)
    record = _RECORD.fullmatch(line)
    return record["text"] if record and record["level"] in ("ERROR", "CRITICAL") else None
