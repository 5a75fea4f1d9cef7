"""Gathers what an evaluation left in the store and writes it down for a person and for a
program.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from common.data import Layout, load_task
from common.rpc.errors import RpcError
from common.stages import STAGES
from common.store import Artifact, Store, StoreError, open_latents
from common.store.files import replace_atomically
from ldcq.config import Config, dump
from services.actor.priors import MissingPriorError, Priors
from services.actor.report import wording
from services.actor.report.latent_figure import latent_figure
from services.actor.report.loss_figure import loss_figure, read_logs
from services.actor.report.maze_figure import maze_figure
from services.actor.report.prior_samples import EvaluatedPrior, draw_latents, evaluated_priors
from services.actor.report.score_figure import score_figure
from services.actor.report.theme import THEMES, Draw, to_png
from services.actor.report.written import HTML, JSON, written_report
from services.actor.video import video_path

_LOGGER = logging.getLogger(__name__)
_DATA_POINTS = 12_000

Rows = list[Mapping[str, Any]]


def ensure_report(base: Config, store: Store, evaluation_version: str, priors: Priors) -> Path:
    """Writes the report unless the one in the store is about this evaluation already."""
    there = written_report(store, evaluation_version)
    return there or write_report(base, store, evaluation_version, priors)


def write_report(base: Config, store: Store, evaluation_version: str, priors: Priors) -> Path:
    """Writes `report.html` and `report.json` into the store's folder, replacing them at once.

    Args:
        base: The main pipeline's configuration.
        store: Evaluation, latents, logs and video are read from it.
        evaluation_version: Which evaluation.
        priors: Asked for samples; a service that does not answer costs that section only.

    Returns:
        The path of the HTML file.

    Raises:
        StoreError: The evaluation is not in the store, or damaged.
        DataError: The task cannot be loaded.
    """
    evaluation = store.load("evaluation", evaluation_version)
    layout = load_task(base, store.root).layout
    evaluated = evaluated_priors(base, store, evaluation.meta.parents)
    details: Mapping[str, Any] = evaluation.meta.details
    rows: Rows = details["rows"]
    parents = sorted(evaluation.meta.parents.items())
    html = _TEMPLATE.render(
        base=base,
        evaluation=evaluation,
        details=details,
        rows=rows,
        explanations=wording.method_explanations(rows, _implementations(store, evaluation, rows)),
        figures={
            "scores": score_figure(rows),
            "maze": _maze(base, store, evaluation, rows, layout, evaluated),
            "video": _video(store, evaluation, rows),
            "latents": _latents(base, store, priors, evaluated),
            "losses": _losses(store),
        },
        versions=[
            ("Evaluation", evaluation_version),
            *((wording.artifact_title(key), version) for key, version in parents),
        ],
        config=dump(base),
    )
    path = store.root / HTML
    replace_atomically(path, html.encode())
    kept = ("rows", "max_episode_steps", "reference_scores", "confidence")
    content = {
        "name": base.name,
        "evaluation_version": evaluation.version,
        **{name: details[name] for name in kept},
        "parents": evaluation.meta.parents,
        "config": base.model_dump(mode="json"),
    }
    beside = json.dumps(content, indent=2, allow_nan=False)
    replace_atomically(store.root / JSON, beside.encode())
    _LOGGER.info("report: %s", path)
    return path


def _implementations(store: Store, evaluation: Artifact, rows: Rows) -> dict[str, str]:
    """A variant to the name of its prior; one without a prior of its own uses the main one."""
    found = {}
    for key, version in evaluation.meta.parents.items():
        kind, _, variant = key.partition(".")
        if kind == "prior":
            found[variant or "main"] = store.meta("prior", version).implementation
    return {row["variant"]: found.get("main", "") for row in rows} | found


def _maze(
    base: Config,
    store: Store,
    evaluation: Artifact,
    rows: Rows,
    layout: Layout | None,
    evaluated: list[EvaluatedPrior],
) -> Draw | None:
    drawn = {
        wording.method_label(row["method"]): evaluation.tensors[f"{row['method']}/positions"]
        for row in rows
        if f"{row['method']}/positions" in evaluation.tensors
    }
    if layout is None or not drawn:
        return None
    return maze_figure(layout, drawn, _data_positions(base, store, layout, evaluated))


def _video(store: Store, evaluation: Artifact, rows: Rows) -> dict[str, Any] | None:
    gif = video_path(store.root, evaluation.version)
    if not gif.is_file():
        return None
    first = next(row["method"] for row in rows if row["policy"] != "behaviour")
    return {"method": wording.method_label(first), "gif": gif.read_bytes()}


def _data_positions(
    base: Config, store: Store, layout: Layout, evaluated: list[EvaluatedPrior]
) -> NDArray[np.float32] | None:
    """Positions of window starts in the data, a random part of them; None without the table of
    latents.
    """
    if not evaluated:
        return None
    try:
        version = store.meta("prior", evaluated[0].version).parents["latents"]
        table = open_latents(store, version, memory=base.training.memory)
    except (StoreError, KeyError) as error:
        _LOGGER.warning("the report does not show where the data have been: %s", error)
        return None
    rows = np.random.default_rng(0).permutation(len(table))[:_DATA_POINTS]
    positions: NDArray[np.float32] = table.state[rows][:, list(layout.position_indices)]
    return positions


def _latents(
    base: Config, store: Store, priors: Priors, evaluated: list[EvaluatedPrior]
) -> Draw | str | None:
    """The figure, or why it could not be drawn; None where nothing was drawn from a prior."""
    if not evaluated:
        return None
    try:
        return latent_figure(draw_latents(base, store, priors, evaluated))
    except (RpcError, MissingPriorError, StoreError, KeyError) as error:
        _LOGGER.warning("the report shows no latents: %s", error)
        return str(error)


def _losses(store: Store) -> list[tuple[str, str, Draw]]:
    """Name, title and figure of every stage that left a log."""
    logs = read_logs(store.root / "logs")
    stages = sorted(logs, key=lambda s: (*[s.split("-")[0] != kind for kind in STAGES], s))
    return [(stage, wording.stage_title(stage), loss_figure(logs[stage])) for stage in stages]


def _uri(content: Draw | bytes, theme: str = "") -> str:
    """A figure in a theme, or a GIF, as a URI that the page holds inside."""
    if isinstance(content, bytes):
        return f"data:image/gif;base64,{base64.b64encode(content).decode()}"
    png = to_png(content, next(known for known in THEMES if known.name == theme))
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_ENVIRONMENT.filters |= {"uri": _uri, "label": wording.method_label}
_TEMPLATE = _ENVIRONMENT.get_template("report.html.j2")
