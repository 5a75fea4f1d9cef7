"""A hook of mkdocs: pages from files outside docs/, and patterns in the navigation.

A link in a Markdown file holds in the repository. On the site it leads to the page of its target.
Where the target has no page, the words stay and the link goes.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
PAGES = {  # a file outside docs/: its page
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "examples/foreign-prior/README.md": "foreign-prior.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]+)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replaces a pattern in the navigation by the files that match it."""
    for section in config.nav or []:
        for title, entries in section.items():
            if isinstance(entries, list):
                section[title] = [name for entry in entries for name in _matches(entry)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages whose sources are outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(DOCS.parent / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns the links of the repository into links of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def replace(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        source = posixpath.normpath(posixpath.join(folder, target))
        if f"{source}/README.md" in PAGES:
            source = f"{source}/README.md"
        if source not in PAGES and not source.startswith("docs/"):
            return str(text)
        found = PAGES.get(source, source.removeprefix("docs/"))
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(replace, markdown)


def _matches(entry: Any) -> list[Any]:
    if not isinstance(entry, str) or "*" not in entry:
        return [entry]
    return sorted(str(path.relative_to(DOCS)) for path in DOCS.glob(entry))
