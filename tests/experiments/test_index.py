import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.index import MARKS, main


def write(folder: Path, name: str, *notes: str, rows: Sequence[dict[str, Any]] = ()) -> None:
    (folder / name).mkdir()
    content = {
        "title": name.title(), "paper": "Table 1", "scale": "small", "seeds": [0, 1, 2],
        "seconds": 1500.0, "notes": notes, "rows": rows,
    }  # fmt: skip
    (folder / name / "results.json").write_text(json.dumps(content))


def write_index(folder: Path, readme: str = "\n".join(["# Us", *MARKS, "More."])) -> int:
    (folder / "US.md").write_text(readme)
    return main([str(folder), str(folder / "US.md")])


def scored(method: str, mean: float, **more: Any) -> dict[str, Any]:
    found = {"mean": mean, "ci_low": mean - 1, "ci_high": mean + 1}
    empty = dict.fromkeys(["first_hit", "success_score", "paper"])
    return {"method": method, "return": found, "seeds": 3, **empty, **more}


def test_the_readme_has_the_scores_of_every_task(tmp_path: Path) -> None:
    hit, paper = {"mean": 99.0, "ci_low": 98.0, "ci_high": 100.0}, {"value": 47.7}
    adroit = [
        scored("bc", 10.0, task="pen"), scored("ldcq", 12.0, task="pen", paper=paper),
        scored("ldcq", 13.0, task="door"), scored("IQL (d3rlpy 2.8.1)", 14.0, task="door"),
    ]  # fmt: skip
    maze = [scored("bcq_h", 20.0, first_hit=hit), scored("ldcq", 21.0, first_hit=hit)]
    maze += [scored("ldcq (avx2)", 22.0, first_hit=hit), scored("behaviour", 1.0)]
    scene = [scored("ldcq", 0.0, success_score=hit)]
    for name, rows in (("adroit", adroit), ("maze2d", maze), ("manipulation", scene)):
        write(tmp_path, name, "It is so.", rows=rows)
    assert write_index(tmp_path) == 0
    text = (tmp_path / "US.md").read_text()
    assert text.startswith(f"# Us\n{MARKS[0]}\n| task |")
    assert text.endswith(f"|\n{MARKS[1]}\nMore.")
    assert text.splitlines()[4:-2] == [
        "| [Maze2D](./maze2d/README.md) | return | - | 20.0 [19.0, 21.0] | 21.0 [20.0, 22.0] | - "
        "| - | - | - | 3 |",
        "| [Maze2D](./maze2d/README.md) | first hit | - | 99.0 [98.0, 100.0] "
        "| 99.0 [98.0, 100.0] | - | - | - | - | 3 |",
        "| [Manipulation](./manipulation/README.md) | success % | - | - | 99.0 [98.0, 100.0] | - "
        "| - | - | - | 3 |",
        "| [pen](./adroit/README.md) | return | 10.0 [9.00, 11.0] | - | 12.0 [11.0, 13.0] | - | - "
        "| - | 47.7 | 3 |",
        "| [door](./adroit/README.md) | return | - | - | 13.0 [12.0, 14.0] | - | - "
        "| 14.0 [13.0, 15.0] | - | 3 |",
    ]
    assert "| [pen](adroit/README.md) |" in (tmp_path / "README.md").read_text()


def test_the_index_links_every_result_with_what_it_found_in_the_order_of_the_run(
    tmp_path: Path,
) -> None:
    write(tmp_path, "steps", "They score alike.", "A definition.")
    write(tmp_path, "maze2d", "LDCQ is ahead.")
    assert write_index(tmp_path) == 0
    lines = [line for line in (tmp_path / "README.md").read_text().splitlines() if "](" in line]
    assert lines == [
        "| [Maze2D](maze2d/README.md) | Table 1 | small | 3 | 25 min | LDCQ is ahead. |",
        "| [Steps](steps/README.md) | Table 1 | small | 3 | 25 min | They score alike. |",
    ]


def test_the_index_says_what_data_its_results_are_of(tmp_path: Path) -> None:
    write(tmp_path, "steps", "They score alike.")
    assert write_index(tmp_path) == 0
    page = (tmp_path / "README.md").read_text()
    assert "No task of the paper was run on D4RL's own data" in page
    assert "All results are of scale `small`." in page


def test_a_folder_that_is_not_there_and_a_file_without_marks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), str(tmp_path)]) == 2
    assert write_index(tmp_path, "Without marks.") == 2
    assert capsys.readouterr().err.count("usage") == 2
