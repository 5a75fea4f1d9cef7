"""Where a store's report is, and of which evaluation; draws nothing."""

from __future__ import annotations

import json
from pathlib import Path

from common.store import Store

HTML, JSON = "report.html", "report.json"


def written_report(store: Store, evaluation_version: str) -> Path | None:
    """The report in the store where it is about this evaluation; None: it is about another, or
    there is none.
    """
    html, beside = store.root / HTML, store.root / JSON
    try:
        written = json.loads(beside.read_text())["evaluation_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return html if written == evaluation_version and html.is_file() else None
