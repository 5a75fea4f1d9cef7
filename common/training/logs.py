"""Metrics of a stage: a CSV for programs, TensorBoard for people."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from common.store.files import naming, replace_atomically

HEADER = ("step", "metric", "value")


class MetricLog:
    """`metrics.csv` (columns step, metric, value) and TensorBoard events in one folder.

    No clock enters the CSV: a killed and resumed run writes the same file as one that was not.
    """

    def __init__(self, folder: Path, after: int) -> None:
        """Opens the log to go on after `after` steps; later rows, of a dead run, are dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        path = self._path = folder / "metrics.csv"
        kept = [row for row in _rows(path) if row[0] <= after]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((step, name, repr(value)) for step, name, value in kept)
        replace_atomically(path, text.getvalue().encode())
        self._file = path.open("a", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._board = SummaryWriter(str(folder), purge_step=after + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds one row for each metric, after `step` steps."""
        for name, value in metrics.items():
            self._csv.writerow((step, name, repr(float(value))))
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Waits until the rows are on disk; a checkpoint must not be ahead of them."""
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes what is buffered."""
        with naming(self._path):
            self._file.close()
            self._board.close()


def read_metrics(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reads a `metrics.csv`.

    Returns:
        Steps (int64) and values (float64) by metric; empty when there is no file.
    """
    series: dict[str, tuple[list[int], list[float]]] = {}
    for step, name, value in _rows(path):
        steps, values = series.setdefault(name, ([], []))
        steps.append(step)
        values.append(value)
    return {
        name: (np.array(steps, np.int64), np.array(values))
        for name, (steps, values) in series.items()
    }


def _rows(path: Path) -> list[tuple[int, str, float]]:
    """The whole rows of a log; a last line cut short by a kill is left out, and damaged ones."""
    if not path.is_file():
        return []
    complete, _, _ = path.read_text(errors="replace").rpartition("\n")
    rows = []
    for line in complete.splitlines()[1:]:
        try:
            ((step, name, value),) = csv.reader([line])
            rows.append((int(step), name, float(value)))
        except (ValueError, csv.Error):
            continue
    return rows
