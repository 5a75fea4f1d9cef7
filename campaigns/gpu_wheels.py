"""`make gpu-wheels`: what `make gpu-check` needs on a machine without network, whose torch stays.

python -m campaigns.gpu_wheels build/gpu/wheels --python 3.12
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

PROJECT = Path(__file__).parents[1]
EXTRAS = ("data", "maze", "actor", "torch")
TOOLS = ("pytest>", "pytest-timeout>", "pytest-xdist>")
"""Of the extra `dev`."""
GLIBC = (5, 12, 17, 18, 24, 26, 27, 28, 31, 34, 35)
"""pip takes a wheel only for a platform that is named: manylinux_2_N."""


def requirements(project: dict[str, Any]) -> list[str]:
    """What the check needs of the table `project` of pyproject.toml: all but torch itself."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    lines += [line for line in extras["dev"] if line.startswith(TOOLS)]
    return [line for line in dict.fromkeys(lines) if not line.startswith(("torch==", "ldcq["))]


def main(
    folder: Annotated[Path, typer.Argument(help="Where wheels go.")],
    python: Annotated[str, typer.Option(help="Version of Python there.")] = "3.12",
) -> None:
    """Fetch the wheels, and build the project's own."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    platforms = [f"manylinux_2_{n}_x86_64" for n in GLIBC] + ["manylinux2014_x86_64"]
    pip = [sys.executable, "-m", "pip"]
    there = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
    there += [part for platform in platforms for part in ("--platform", platform)]
    into = ["--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "download", *into, "--dest", str(folder), *there, *requirements(project)], check=True
    )
    subprocess.run(
        [*pip, "wheel", *into, "--wheel-dir", str(folder), "--no-deps", str(PROJECT)], check=True
    )
    found = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in found) / 2**20
    print(
        f"{len(found)} wheels, {size:.0f} MiB, in {folder}; delete those of what is there already"
    )


if __name__ == "__main__":
    typer.run(main)
