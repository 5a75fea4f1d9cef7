"""The documentation holds: its snippets run or parse, its keys, links, folders and site exist.

The language of a fence decides its test. Python runs. YAML loads as a configuration, over the
preset `demo` where it names no base. In a fence without a language, every line that starts with a
known command is parsed.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from pydantic import BaseModel

from cli.main import app
from ldcq.config import Config, PointMazeConfig, load
from tests.command import TINY

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "examples/foreign-prior/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/methods").glob("*.md")),
    *sorted((ROOT / "docs/adr").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(
    r"(?:ldcq|common|services|cli|experiments|benchmarks|campaigns)/[\w./-]+\.(?:py|c|yaml)"
)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
EXTERNAL = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
COMMAND: Any = typer.main.get_command(app)


@dataclass(frozen=True)
class Snippet:
    """One fence of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _snippets() -> Iterator[Snippet]:
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            language, body = match.groups(default="")
            line = text.count("\n", 0, match.start()) + 1
            yield Snippet(page.relative_to(ROOT).as_posix(), line, language, body)


def _lines(snippet: Snippet) -> list[str]:
    """Its commands, one a line, without variables before them; `$(...)` is a command too."""
    lines = []
    for line in snippet.text.replace("\\\n", " ").splitlines():
        for part in [*re.findall(r"\$\(([^)]*)\)", line), *line.split("&&")]:
            plain = re.sub(r"^(?:\w+=\S*\s+)*(?:\.venv/bin/)?", "", part.strip())
            lines.append(re.sub(r"(^|\s)#.*", "", plain).rstrip())
    return lines


SNIPPETS = list(_snippets())
SHELL = [s for s in SNIPPETS if not s.language]
CONFIGURATIONS = [s for s in SNIPPETS if s.language == "yaml"]
PYTHON = [s for s in SNIPPETS if s.language == "python"]
PROSE = {page: FENCE.sub("", page.read_text()) for page in PAGES}
LINES = [
    pytest.param(line, id=f"{s}: {line}")
    for s in SHELL
    for line in _lines(s)
    if line.split(" ")[0] in ("ldcq", "make", "python", "docker", "kubectl")
]


@pytest.mark.parametrize("line", LINES)
def test_a_shell_line_names_what_is_there(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "ldcq":
        _parse(arguments)
    elif program == "make":
        assert arguments[0] in MAKE_TARGETS
    elif program == "python":
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1])
        else:
            assert (ROOT / arguments[0]).is_file()
    else:
        for option, value in itertools.pairwise(arguments):
            if option == "-k" or (option == "-f" and value.endswith(".yml")):
                assert (ROOT / value).exists(), value


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
@pytest.mark.timeout(600)
def test_the_readme_s_commands_run_from_top_to_bottom(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Those of the command line, on a small store that is trained already; the last one serves."""
    store = tmp_path / "store"
    shutil.copytree(finished[0], store)
    readme = (ROOT / "README.md").read_text()
    block = FENCE.search(readme, readme.index("## The command line"))
    assert block
    text = block[2].replace("configs/demo.yaml", str(TINY)).replace("runs/demo", str(store))
    *lines, last = text.replace("--episodes 100", "--episodes 2").splitlines()
    assert last.startswith("ldcq serve prior ")
    assert len(lines) >= 5
    command = tmp_path / "ldcq"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    command.chmod(0o755)
    script = "\n".join([f"set -e; PATH={tmp_path}:$PATH", *lines])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", CONFIGURATIONS, ids=str)
def test_a_configuration_loads(snippet: Snippet, tmp_path: Path) -> None:
    _load(snippet, tmp_path)


@pytest.mark.xdist_group("pipeline")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_python_runs(
    snippet: Snippet, exported: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside an exported policy and with an actor that serves, as the pages have it."""
    monkeypatch.chdir(exported.parent)
    found: dict[str, Any] = {
        "observations": np.zeros((3, 4)),
        "mask": np.array([True, False, True]),
    }
    exec(compile(snippet.text.replace("localhost:50051", served), str(snippet), "exec"), found)
    assert found.get("actions", np.zeros((3, 2))).shape == (3, 2)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_names_what_is_there(page: Path) -> None:
    """Commands with their options, make targets, files and configuration keys in inline code;
    links.
    """
    for code in INLINE.findall(PROSE[page]):
        if code.startswith("ldcq "):
            _resolve(code.split()[1:])
        elif code.startswith("make "):
            assert code.split()[1] in MAKE_TARGETS, code
        elif FILE.fullmatch(code):
            assert (ROOT / code).exists(), code
        elif _is_key(code):
            assert _knows(Config, code.split(":")[0].split(".")), code
    for target in LINK.findall(PROSE[page]):
        assert (page.parent / target).exists(), target


def test_the_readme_s_configurations_mean_what_they_say(tmp_path: Path) -> None:
    mine, maze = (_load(s, tmp_path).data for s in CONFIGURATIONS if s.page == "README.md")
    assert mine.observation_keys == ("position", "velocity")
    assert isinstance(maze.generate, PointMazeConfig)
    assert maze.generate.maze[1] == "#R....#"


def test_the_readme_s_folders_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = readme.partition("| folder |")[2].partition("\n\n")[0].splitlines()[2:]
    folders = [name for row in rows for name in INLINE.findall(row.split("|")[1])]
    assert {"ldcq", "common", "services/actor", "cli", "tests"} <= set(folders)
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_the_paper_is_where_its_table_says() -> None:
    table = (
        (ROOT / "docs/paper.md").read_text().partition("|---|---|---|\n")[2].partition("\n\n")[0]
    )
    assert len(table.splitlines()) > 10
    for row in table.splitlines():
        _, files, names = (cell.strip() for cell in row.strip("|").split("|"))
        text = "".join((ROOT / file).read_text() for file in INLINE.findall(files))
        for name in INLINE.findall(names):
            for part in name.split("."):
                assert re.search(rf"^\s*(class|def) {part}\b", text, re.MULTILINE), (files, name)


def test_the_site_needs_no_other_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    assert [tag for page in pages for tag in EXTERNAL.findall(page.read_text())] == []


def test_there_is_something_to_check() -> None:
    assert len(LINES) >= 40
    assert len(CONFIGURATIONS) >= 6
    assert PYTHON
    assert {"demo", "test", "docs"} <= MAKE_TARGETS


def _parse(arguments: list[str]) -> None:
    """Parses and validates every option of a command line; runs nothing."""
    command, context = COMMAND, COMMAND.make_context("ldcq", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        assert command is not None
        context = command.make_context(name, arguments, parent=context)


def _resolve(words: list[str]) -> None:
    """Checks the names of commands and options in `bench sampler|solvers --json`."""
    commands = [COMMAND]
    for word in words:
        groups = [command for command in commands if hasattr(command, "commands")]
        if word.startswith("--"):
            known = {
                option for one in commands for parameter in one.params for option in parameter.opts
            }
            assert word.partition("=")[0] in known | {"--help"}, word
        elif groups:
            commands = [group.commands[name] for group in groups for name in word.split("|")]


def _load(snippet: Snippet, folder: Path) -> Config:
    base = "" if re.search(r"^base:", snippet.text, flags=re.M) else "base: demo\n"
    file = folder / f"{snippet.line}.yaml"
    file.write_text(base + snippet.text)
    return load(file)


def _is_key(code: str) -> bool:
    """Whether inline code is a key of the configuration, such as `prior.goal_conditioned: true`."""
    section = re.match(r"([a-z_]+)(?:\.[a-z_]+)+(?::.*)?$", code)
    if section is None or code.startswith("prior.options."):  # whose keys the implementation knows
        return False
    return _sections(Config.model_fields.get(section[1])) != []


def _sections(field: Any) -> list[type[BaseModel]]:
    """The models among the types of a field."""
    found, waiting = [], [field.annotation] if field else []
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        waiting += get_args(kind)
    return found


def _knows(section: type[BaseModel], path: list[str]) -> bool:
    """Whether a key exists; below a mapping every key does."""
    if path[0] not in section.model_fields:
        return False
    models = _sections(section.model_fields[path[0]])
    return len(path) == 1 or not models or any(_knows(model, path[1:]) for model in models)
