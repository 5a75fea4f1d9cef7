"""Gathers what an evaluation left in the store and writes it down for a person and for a
program.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data import Layout, load_task
from common.rpc.errors import RpcError
from common.store import Artifact, Store, StoreError, open_latents
from common.store.files import replace_atomically
from ldcq.config import Config, dump
from services.actor.priors import MissingPriorError, Priors
from services.actor.report import page, wording
from services.actor.report.latent_figure import latent_figure
from services.actor.report.latents import EvaluatedPrior, draw_latents, evaluated_priors
from services.actor.report.loss_figure import loss_figure, read_logs
from services.actor.report.maze_figure import maze_figure
from services.actor.report.score_figure import score_figure
from services.actor.video import video_path

HTML, JSON = "report.html", "report.json"
_LOGGER = logging.getLogger(__name__)
_DATA_POINTS = 12_000


def ensure_report(base: Config, store: Store, evaluation_version: str, priors: Priors) -> Path:
    """Writes the report unless the one in the store is about this evaluation already."""
    html, beside = store.root / HTML, store.root / JSON
    try:
        written = json.loads(beside.read_text())["evaluation_version"]
    except (OSError, ValueError, KeyError, TypeError):
        written = None
    if written == evaluation_version and html.is_file():
        return html
    return write_report(base, store, evaluation_version, priors)


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
    sections = [
        _scores(store, evaluation),
        *_rollouts(base, store, evaluation, layout, evaluated),
        *_latents(base, store, priors, evaluated),
        *_losses(store),
        _origin(base, evaluation),
    ]
    lead = (
        f"Dataset {base.data.dataset}, horizon H = {base.horizon}, evaluation {evaluation_version}."
    )
    html = page.render(f"ldcq: {base.name}", lead, sections)
    path = store.root / HTML
    replace_atomically(path, html.encode())
    content = json.dumps(_content(base, evaluation), indent=2, allow_nan=False)
    replace_atomically(store.root / JSON, content.encode())
    _LOGGER.info("report: %s", path)
    return path


def _content(base: Config, evaluation: Artifact) -> dict[str, Any]:
    details = evaluation.meta.details
    return {
        "name": base.name,
        "evaluation_version": evaluation.version,
        "rows": details["rows"],
        "max_episode_steps": details["max_episode_steps"],
        "reference_scores": details["reference_scores"],
        "confidence": details["confidence"],
        "parents": evaluation.meta.parents,
        "config": base.model_dump(mode="json"),
    }


def _scores(store: Store, evaluation: Artifact) -> page.Section:
    details: Mapping[str, Any] = evaluation.meta.details
    rows = details["rows"]
    labels = wording.method_labels(rows)
    implementations = {}
    for key, version in evaluation.meta.parents.items():
        kind, _, variant = key.partition(".")
        if kind == "prior":
            implementations[variant or "main"] = store.meta("prior", version).implementation
    for row in rows:  # a variant without a prior of its own uses the main one
        implementations.setdefault(row["variant"], implementations.get("main", ""))
    body = (
        page.score_table(rows, labels)
        + page.picture(score_figure(rows, labels), "Scores with confidence intervals")
        + "<h3>The methods</h3>"
        + page.definitions(wording.method_explanations(rows, implementations))
        + "<h3>The columns</h3>"
        + page.definitions(wording.column_explanations(rows, details))
    )
    return page.Section("Scores", body)


def _rollouts(
    base: Config,
    store: Store,
    evaluation: Artifact,
    layout: Layout | None,
    evaluated: list[EvaluatedPrior],
) -> list[page.Section]:
    sections = []
    rows: Any = evaluation.meta.details["rows"]
    labels = wording.method_labels(rows)
    drawn = {
        labels[row["method"]]: evaluation.tensors[f"{row['method']}/positions"]
        for row in rows
        if f"{row['method']}/positions" in evaluation.tensors
    }
    if layout is not None and drawn:
        data = _data_positions(base, store, layout, evaluated)
        text = (
            "Open circles are starts, filled ones are ends; the star is the goal, and the disc "
            "around it gives reward. The first episodes of each method are drawn."
        )
        figure = page.picture(maze_figure(layout, drawn, data), "Trajectories over the maze")
        sections.append(page.Section("Where the methods go", page.paragraph(text, "note") + figure))
    gif = video_path(store.root, evaluation.version)
    if gif.is_file():
        first = next(row["method"] for row in rows if row["policy"] != "behaviour")
        text = page.paragraph(f"The first episode of {labels[first]}.", "note")
        picture = page.animation(gif.read_bytes(), "One rollout, animated")
        sections.append(page.Section("One rollout", text + picture))
    return sections


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
) -> list[page.Section]:
    if not evaluated:
        return []
    title = "Latents of the data, and what each prior draws"
    try:
        samples = draw_latents(base, store, priors, evaluated)
    except (RpcError, MissingPriorError, StoreError, KeyError) as error:
        _LOGGER.warning("the report shows no latents: %s", error)
        return [page.Section(title, page.paragraph(f"Not drawn: {error}", "note"))]
    text = (
        "Latents projected on the two directions along which those of the data vary most. Above: "
        "one latent at each of many states. Below: many latents at one state, beside those of the "
        "data's windows that start nearest to it. Grey points behind a prior's are the data's: a "
        "prior should cover them and leave the empty places between them empty."
    )
    figure = page.picture(latent_figure(samples), "Latents of data and priors, projected")
    return [page.Section(title, page.paragraph(text, "note") + figure)]


def _losses(store: Store) -> list[page.Section]:
    logs = read_logs(store.root / "logs")
    if not logs:
        return []
    order = ["vae", "prior", "critic", "world_model", "bc"]
    stages = sorted(logs, key=lambda s: (*[s.split("-")[0] != name for name in order], s))
    body = "".join(
        f"<h3>{wording.stage_title(stage)}</h3>"
        + page.picture(loss_figure(logs[stage]), f"Training of the {stage}")
        for stage in stages
    )
    return [page.Section("Training", body)]


def _origin(base: Config, evaluation: Artifact) -> page.Section:
    pairs = [("Evaluation", evaluation.version)]
    pairs += [(wording.artifact_title(k), v) for k, v in sorted(evaluation.meta.parents.items())]
    text = page.paragraph(
        "Every version is a digest of the content: the same versions are the same models.", "note"
    )
    config = page.folded("The whole configuration", dump(base))
    return page.Section("What this was made from", text + page.pairs_table(pairs) + config)
