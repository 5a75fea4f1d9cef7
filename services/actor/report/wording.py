"""What the report calls things, and how it explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.stages import STAGES

_LABELS = {
    "ldcq": "LDCQ",
    "bcq_h": "BCQ-H",
    "bcq": "BCQ",
    "bc": "BC",
    "ldgc": "LDGC",
    "ldcp": "LDCP",
    "prior": "one prior sample",
    "behaviour": "the data itself",
}


def method_label(name: str) -> str:
    """What a reader calls a method; an unknown one is called by its name."""
    return _LABELS.get(name, name)


def method_explanations(
    rows: Sequence[Mapping[str, Any]], implementations: Mapping[str, str]
) -> list[tuple[str, str]]:
    """What each method does.

    Args:
        rows: The rows of an evaluation.
        implementations: A variant to the name of its prior.
    """
    return [
        (method_label(row["method"]), _explain(row, implementations.get(row["variant"], "")))
        for row in rows
    ]


def stage_title(stage: str) -> str:
    """What a stage trains; the name of its log may carry a variant, as in `prior-bcq_h`."""
    name, _, variant = stage.partition("-")
    title = f"{STAGES[name].title}: {STAGES[name].about}" if name in STAGES else name
    return f"{title} ({variant})" if variant else title


def artifact_title(key: str) -> str:
    """What a key of an evaluation's lineage names."""
    kind, _, variant = key.partition(".")
    title = STAGES[kind].title if kind in STAGES else "Dataset (fingerprint)"
    return f"{title} of {variant}" if variant else title


def _explain(row: Mapping[str, Any], implementation: str) -> str:
    if row["policy"] == "behaviour":
        return "Nothing learned: what the behaviour that made the dataset scores."
    if row["policy"] in ("prior", "ldgc"):
        return f"Decodes a single sample of the {implementation} prior, as it comes: no critic."
    if row["policy"] == "bc":
        return "Decodes nothing: a network of the data's actions, chosen anew at every step."
    if row["policy"] == "ldcp":
        return (
            f"Draws {row['candidates']} latents from the {implementation} prior, and as many again "
            f"wherever the world model says that they lead, {row['depth']} in a row; decodes the "
            "first of those whose end costs least."
        )
    checked = ", of those that lead to where the data are" if row.get("supported") else ""
    ahead = ", also by where the world model says that it leads" if row.get("lookahead") else ""
    return (
        f"Draws {row['candidates']} latents from the {implementation} prior and decodes the one "
        f"that the critic values most{ahead}{checked}."
    )
