"""The configuration of an experiment at a scale: files in `settings`, and another dataset."""

from __future__ import annotations

from pathlib import Path

from common.config import Config, load, override
from experiments.result import Scale

SETTINGS = Path(__file__).parent / "settings"


def configuration(name: str, scale: Scale, dataset: str | None = None) -> Config:
    """What an experiment runs at a scale.

    Args:
        name: Of the experiment; its files are `settings/<name>.<scale>.yaml`.
        scale: smoke, small or full.
        dataset: A dataset that is there, or can be downloaded, to use instead.

    Raises:
        ConfigError: A file is wrong.
    """
    config = load(SETTINGS / f"{name}.{scale}.yaml")
    if dataset is None:
        return config
    return override(config, {"data.dataset": dataset, "data.generate": None})
