"""The section `task`: what is known of a benchmark's task beside its settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ldcq.config.generate import Generate
from ldcq.config.section import Section


class GeneratedConfig(Section):
    """Data of a task's kind that can be made here."""

    dataset: str
    """Minari id that they get."""
    by: Generate | None = None
    """Who makes them, and how, where `ldcq data generate NAME` does."""
    command: str | None = None
    """The command that makes them otherwise, from what their author publishes."""
    settings: dict[str, Any] = Field(default={})
    """Sections that change where `data.dataset` is `dataset`."""


class TaskConfig(Section):
    """A named task, as `ldcq tasks` prints it. It decides no result, but for `of_file` and
    `generated.settings`, which the loader applies.
    """

    family: str
    benchmark: str
    """Its name there: `hopper-medium-v2` in D4RL."""
    url: str | None = None
    """Where its file can be had: D4RL's HDF5, OGBench's npz."""
    extra: str
    """The extra of the package that has its environment."""
    generated: GeneratedConfig | None = None
    paper: dict[str, tuple[float, ...]] = Field(default={})
    """Scores that the paper gives, by policy: the mean, and the deviation where it gives one."""
    citation: str | None = None
    """Where they stand."""
    note: str | None = None
    """What makes a score here another than the paper's."""
    of_file: dict[str, Any] = Field(default={})
    """Sections that change where `data.dataset` is the path of a file, whose states are in other
    units, or of other entries, than those of the Minari dataset."""
