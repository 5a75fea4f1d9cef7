"""`ldcq diagnose`: what the critics of a store are like, and which numbers foretell scores."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from cli.supervisor import RunError
from common.data import load_task
from common.models import model_of
from common.stages import STAGES, ancestors
from common.store import Store, made_from, open_latents, owning_variant
from common.store.files import replace_atomically
from common.store.served import SERVED
from common.training import configure_torch
from ldcq.config import Config, ConfigError, resolve_variant, validated
from ldcq.critic.diagnostics import (
    LEAST_POLICIES,
    Prediction,
    Support,
    candidate_metrics,
    predictions,
)
from ldcq.critic.transitions import Transitions, training_rows, validation_rows
from ldcq.data.latents import LatentTable
from ldcq.learning.batches import generator
from ldcq.policies.base import Candidates
from ldcq.policies.by_name import make_policy
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.prior import Sampler
from ldcq.registry import find_prior
from ldcq.vae.frames import Frames
from ldcq.world_model import WorldModel
from services.actor.diagnosis import Rollouts, play
from services.actor.models import models_of_critic
from services.actor.report.diagnosis_figure import calibration_figure
from services.actor.report.maze_figure import maze_figure
from services.actor.report.theme import LIGHT, Draw, to_png

STATES = 256
"""Held-out windows whose candidates are looked at."""
SIGNIFICANT = 0.05
SCORES = ("return", "first_hit", "success_score")

CHOICES = {
    "n and temperature": ("critic",),
    "the critic": ("dataset", "H", "n", "temperature", "execute_steps", "lookahead", "support"),
}
"""What is to be chosen without an environment, and what compared policies have in common."""

Found = dict[str, Any]
"""JSON with None for numbers that could not be had: `policies` (each with its settings, `score`,
`offline` and `rollouts`), `predictions` (by score and choice, then by offline number), `advice`,
`pictures`."""
Say = Callable[[str], object]


class Subject(NamedTuple):
    """A policy over a critic of the store."""

    critic: str  # version
    parents: Mapping[str, str]  # of the critic
    config: Config  # the pipeline's own
    method: str = "critic"
    row: Mapping[str, Any] | None = None  # of an evaluation; None: it was never evaluated


def diagnose(store: Store, variant: str | None, episodes: int, out: Path | None, say: Say) -> Found:
    """Looks at every policy over a critic that the store knows: those of its evaluations, and
    critics that were never evaluated, acting as they were configured.

    Args:
        store: Holds them.
        variant: Only policies of this one; None: all.
        episodes: To play with each policy; 0: none.
        out: Where pictures and `diagnose.json` go; None: a folder of the store.
        say: Told which policy is looked at, and what is left out.

    Raises:
        RunError: No critic that can be looked at, no such variant, or no held-out windows.
        StoreError: A model, or the latents it was trained with, cannot be read.
        DataError: Episodes are to be played, and the task cannot be had.
    """
    subjects = _subjects(store, say)
    if not subjects:
        raise RunError(
            f"{store.url}: found no critic; `ldcq run CONFIG --store {store.url}` trains"
        )
    known = sorted({subject.config.variant for subject in subjects})
    if variant not in (None, *known):
        raise RunError(f"--variant {variant}: expected one of {', '.join(known)}")
    # Policies come in the order of their latents: one table at a time is enough.
    table = lru_cache(1)(lambda version: open_latents(store, version))
    policies: list[Found] = []
    played: dict[str, Rollouts] = {}
    figures: dict[str, Draw] = {}
    for number, subject in enumerate(subjects, start=1):
        if variant not in (None, subject.config.variant):
            continue
        name = f"{number} {subject.method}"
        say(f"{name}: critic {subject.critic}")
        policy, prior, frames = _loaded(store, subject)
        windows = table(subject.parents["latents"])
        found = {"policy": name, **_settings(subject, policy, prior), "rollouts": {}}
        found["offline"] = _offline(subject.config, policy, prior, windows)
        policies.append(found)
        if episodes:
            task = load_task(subject.config, store.root)
            title = f"{name}, n {found['n']}, T {found['temperature']}"
            played[title] = play(*(subject.config, task, policy, windows, episodes, frames))
            found["rollouts"] = _rollout_numbers(played[title])
            figures["calibration"] = calibration_figure(played)
            ends = {key: p.positions for key, p in played.items() if p.positions is not None}
            if task.layout is not None:
                figures["ends"] = maze_figure(task.layout, ends, None)
    out = out or store.root / "diagnose"
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        replace_atomically(out / f"{name}.png", to_png(draw, LIGHT))
    result = {
        "policies": policies,
        **what_predicts(policies),
        "pictures": [str(out / f"{name}.png") for name in figures],
    }
    content = json.dumps(result, indent=2, allow_nan=False)
    replace_atomically(out / "diagnose.json", content.encode())
    return result


def _subjects(store: Store, say: Say) -> list[Subject]:
    """Every policy once, by the latents of its critic; of its evaluations that with most episodes.
    A critic without one is a policy as it was configured.
    """
    evaluated = {}
    rated = sorted(_evaluated(store, say), key=lambda s: s.row["episodes"] if s.row else 0)
    for subject in rated:
        evaluated[subject.critic, subject.config.actor.model_dump_json()] = subject
    found, known = list(evaluated.values()), {critic for critic, _ in evaluated}
    for version, config in _configurations(store, "critic", say):
        if version not in known:
            found.append(Subject(version, store.meta("critic", version).parents, config))
    priors = {s.parents["prior"]: store.meta("prior", s.parents["prior"]) for s in found}
    foreign = {version for version, meta in priors.items() if SERVED in meta.parents}
    for version in foreign:
        say(f"left out: what acts over prior {version}, which another program serves")
    own = [subject for subject in found if subject.parents["prior"] not in foreign]
    return sorted(own, key=lambda subject: subject.parents["latents"])


def _evaluated(store: Store, say: Say) -> Iterator[Subject]:
    for version, base in _configurations(store, "evaluation", say):
        meta = store.meta("evaluation", version)
        rows: Any = meta.details["rows"]
        for row in rows:
            if row["policy"] in ("ldcq", "bcq_h"):
                owner = owning_variant(base, row["variant"], "critic")
                critic = meta.parents["critic" if owner == base.variant else f"critic.{owner}"]
                parents = store.meta("critic", critic).parents
                config = resolve_variant(base, row["variant"])
                yield Subject(critic, parents, config, row["method"], row)


def _configurations(store: Store, kind: str, say: Say) -> Iterator[tuple[str, Config]]:
    """All versions of a kind, with the configuration that each was made with."""
    for version in store.versions(kind):
        content = store.place.read(f"{store.key(kind, version)}/config.yaml") or b""
        try:
            yield version, validated(Config, yaml.safe_load(content))
        except ConfigError as error:
            say(f"left out: {kind} {version}, made with another version of ldcq ({error})")


def _loaded(store: Store, subject: Subject) -> tuple[LdcqPolicy, Sampler, Frames | None]:
    """The policy, the prior that it draws from and what compresses its images, in this process."""
    device = configure_torch(subject.config)
    models = models_of_critic(store, store.load("critic", subject.critic), device)
    artifact = store.load("prior", models.prior_version)
    prior = model_of(artifact, find_prior(artifact.meta.implementation), device).sampler()
    world_model = None
    if subject.config.actor.needs_world_model:
        world_model = _world_model(store, subject, device)
    policy = make_policy("ldcq", subject.config, models.decoder, prior, models.critic, world_model)
    assert isinstance(policy, LdcqPolicy)
    return policy, prior, models.frames


def _world_model(store: Store, subject: Subject, device: torch.device) -> WorldModel:
    kind, config = WorldModel.kind, subject.config
    parents = {parent: subject.parents[parent] for parent in ancestors(kind, config)}
    version = made_from(store, config, config.variant, kind, parents)
    if version is None:
        raise RunError(
            f"{store.url}: no world model of the latents of critic {subject.critic}, which acts "
            f"with actor.support or actor.lookahead; made by {STAGES[kind].command(config.variant)}"
        )
    return model_of(store.load(kind, version), WorldModel, device)


def _settings(subject: Subject, policy: LdcqPolicy, prior: Sampler) -> Found:
    config, support = subject.config, subject.config.actor.support
    return {
        "critic": subject.critic,
        "dataset": config.data.dataset,
        "variant": config.variant,
        "seed": config.seed,
        "H": policy.decoder.dimensions.horizon,
        "n": policy.candidates,
        "temperature": prior.resolve(prior.describe().taken(config.actor.sampling)).temperature,
        "execute_steps": policy.execution.steps,
        "lookahead": config.actor.lookahead,
        "support": support and f"{support.quantile:g}, {support.kept:g}",
        "score": {key: _mean(subject.row, key) for key in SCORES},
    }


def _rollout_numbers(played: Rollouts) -> dict[str, float | None]:
    numbers = {"promised_over_earned": played.ratio, "still": played.still}
    return {"return": float(played.returns.mean()), **_known(numbers)}


def _offline(
    config: Config, policy: LdcqPolicy, prior: Sampler, table: LatentTable
) -> dict[str, float | None]:
    """The numbers that need no environment, at the starts of held-out windows."""
    device = policy.critic.state_normaliser.mean.device
    held_out = validation_rows(table, STATES, config.seed)
    if not len(held_out):
        raise RunError("data.validation_fraction: no window is held out, expected at least one")
    windows = Transitions.of(table, training_rows(table, None, config.seed), device)
    own = Transitions.of(table, held_out, device)
    latents = own.draw_latents(generator(config.seed, "diagnose"))
    draw = Candidates(prior, config.actor.candidates, config.actor.sampling)
    states = own.state.cpu().numpy()
    candidates = draw(states, None, config.seed)
    chosen = policy.tensor(policy.choose(states, None, config.seed)).unsqueeze(1)
    with torch.inference_mode():
        own_q = policy.critic.score(own.state, latents.unsqueeze(1)).mean()
        support = Support.of(windows, own.state, latents)
        found = {
            **candidate_metrics(policy.critic, own.state, policy.tensor(candidates), support),
            "off_support_chosen": support.outside(own.state, chosen).float().mean(),
        }
    return _known({name: float(value) for name, value in {"own_q": own_q, **found}.items()})


def what_predicts(policies: Sequence[Found]) -> Found:
    """What foretells a score, for each choice to be made, and a sentence on it.

    How to act is seen from policies over one critic, which critic to take from policies that act
    alike on the same dataset.
    """
    scored = [policy for policy in policies if policy["score"]["return"] is not None]
    result: Found = {"predictions": {}, "advice": []}
    for choice, keys in CHOICES.items():
        group = [str([policy[key] for key in keys]) for policy in scored]
        kept = [p for p, one in zip(scored, group, strict=True) if group.count(one) > 1]
        groups = np.array([one for one in group if group.count(one) > 1])
        if len(kept) < LEAST_POLICIES:
            result["advice"].append(
                f"To choose {choice}: {len(kept)} evaluated policies with the same "
                f"{', '.join(keys)} are in the store, {LEAST_POLICIES} are needed to say what "
                "predicts the score."
            )
            continue
        for score in SCORES:
            values = [policy["score"][score] for policy in kept]
            if None not in values:
                names = kept[0]["offline"]
                columns = {n: np.array([p["offline"].get(n) for p in kept], float) for n in names}
                found = predictions(columns, np.array(values), groups)
                result["predictions"][f"{score}, to choose {choice}"] = found
                result["advice"].append(_advice(choice, score, found, len(kept)))
    return result


def _advice(choice: str, score: str, found: Mapping[str, Prediction], count: int) -> str:
    name, best = next(iter(found.items()))
    rho, p = best["spearman"], best["p"]
    said = f"Spearman {rho:+.2f}, p {p:.3f} among {len(found)} numbers, {count} policies"
    if p < SIGNIFICANT:
        size = "large" if rho > 0 else "small"
        return (
            f"To choose {choice}: {size} {name} predicts {score} without an environment ({said})."
        )
    return (
        f"To choose {choice}: no offline number predicts {score} better than chance; the strongest "
        f"is {name} ({said}). Use rollouts."
    )


def show(found: Found, console: Console) -> None:
    """Prints what `diagnose` found, for people."""
    policies = found["policies"]
    settings = ("variant", "seed", "H", "n", "temperature", "execute_steps", "lookahead", "support")
    _print(console, "Policies", {p["policy"]: {k: p[k] for k in settings} for p in policies})
    titles = {
        "offline": "Offline, in units of discounted return",
        "rollouts": "Rollouts, with the raw return",
        "score": "Scores of the evaluations",
    }
    for part, title in titles.items():
        _print(console, title, {policy["policy"]: policy[part] for policy in policies})
    for score, by_name in found["predictions"].items():
        _print(console, f"What predicts {score}", by_name)
    for line in (*found["advice"], *(f"Picture: {path}" for path in found["pictures"])):
        console.print(line, highlight=False, soft_wrap=True)


def _print(console: Console, title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of rows by name, unless they are all empty."""
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    if not columns:
        return
    table = Table(title=title, title_justify="left")
    for name in ("", *columns):
        table.add_column(
            name.replace("_", " "), justify="right" if name else "left", overflow="fold"
        )
    for name, row in rows.items():
        cells = (row.get(column) for column in columns)
        texts = (c if isinstance(c, str) else "-" if c is None else f"{c:.3g}" for c in cells)
        table.add_row(name, *texts)
    console.print(table)


def _mean(row: Mapping[str, Any] | None, score: str) -> float | None:
    return row[score]["mean"] if row and row.get(score) else None


def _known(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """None instead of NaN and infinity."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
