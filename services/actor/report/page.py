"""The report as one HTML file: text, tables and pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from services.actor.report.theme import THEMES, Draw, data_uri, to_png

STYLE = """
:root { --ground: #f4f5f6; --surface: #ffffff; --ink: #16191d; --muted: #5f6670;
  --line: #e0e3e7; --accent: #2a6fdb; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #101214; --surface: #191c20; --ink: #eceef0; --muted: #a0a7b0;
  --line: #2e333a; --accent: #6aa5ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-size: 15px; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.65rem; margin: 0 0 .2rem; letter-spacing: -.01em; }
h2 { font-size: 1.12rem; margin: 0 0 .4rem; }
h3 { font-size: .95rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 74ch; }
.lead, .note { color: var(--muted); }
.note { font-size: .88rem; }
section { background: var(--surface); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.2rem 1.3rem; margin-top: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .92rem; }
th, td { text-align: right; padding: .45rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--muted); font-weight: 600; font-size: .82rem; vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 0; }
td .ci { color: var(--muted); font-size: .85em; display: block; }
td .name { color: var(--muted); font-size: .85em; display: block; }
table.plain td { text-align: left; }
table.plain td:last-child { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; }
img { display: block; max-width: 100%; height: auto; margin: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: .6rem 0 0;
  font-size: .9rem; }
dt { font-weight: 600; } dd { margin: 0; color: var(--muted); max-width: 70ch; }
pre { overflow-x: auto; font-size: .8rem; background: var(--ground); border-radius: 6px;
  padding: .8rem; margin: .5rem 0 0; }
summary { cursor: pointer; color: var(--accent); }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        body: HTML.
    """

    title: str
    body: str


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is a class of the style sheet."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def picture(draw: Draw, description: str) -> str:
    """A figure in both themes; the reader's setting chooses."""
    light, dark = (data_uri(to_png(draw, theme)) for theme in THEMES)
    return (
        f'<picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="{escape(description)}"></picture>'
    )


def animation(gif: bytes, description: str) -> str:
    """A GIF inside the page."""
    return f'<img src="{data_uri(gif, "image/gif")}" alt="{escape(description)}">'


def pairs_table(pairs: Sequence[tuple[str, str]]) -> str:
    """Two columns of plain text."""
    rows = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in pairs)
    return f'<div class="scroll"><table class="plain"><tbody>{rows}</tbody></table></div>'


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """Terms and what they mean."""
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in items) + "</dl>"


def folded(summary: str, text: str) -> str:
    """Preformatted text behind a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def score_table(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """The scores, one row per method; a column that no method has is left out."""
    columns: list[tuple[str, str]] = [("return", "return")]
    if any(row["first_hit"] for row in rows):
        columns.append(("first_hit", "first hit"))
    if any(row["success"] is not None for row in rows):
        columns.append(("success", "success"))
    columns += [
        ("candidates", "candidates"),
        ("execute_steps", "steps per latent"),
        ("episodes", "episodes"),
        ("seed", "seed"),
    ]
    head = "".join(f"<th>{escape(title)}</th>" for _, title in columns)
    body = "".join(_score_row(row, columns, labels) for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr><th>method</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    parts = "".join(f"<section><h2>{escape(s.title)}</h2>{s.body}</section>" for s in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{paragraph(lead, 'lead')}{parts}"
        "</main></body></html>\n"
    )


def _score_row(
    row: Mapping[str, Any], columns: Sequence[tuple[str, str]], labels: Mapping[str, str]
) -> str:
    method = str(row["method"])
    label = labels.get(method, method)
    name = f'<span class="name">{escape(method)}</span>' if label != method else ""
    cells = "".join(f"<td>{_cell(key, row[key])}</td>" for key, _ in columns)
    return f"<tr><td>{escape(label)}{name}</td>{cells}</tr>"


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, Mapping):
        interval = f"{value['ci_low']:.1f} to {value['ci_high']:.1f}"
        return f'{value["mean"]:.1f}<span class="ci">{interval}</span>'
    return f"{value:.0%}" if key == "success" else escape(str(value))
