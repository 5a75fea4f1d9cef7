import json
from pathlib import Path

import pytest

from experiments.index import main


def write(folder: Path, name: str, *notes: str) -> None:
    (folder / name).mkdir()
    content = {
        "title": name.title(), "paper": "Table 1", "scale": "small", "seeds": [0, 1, 2],
        "seconds": 1500.0, "notes": notes,
    }  # fmt: skip
    (folder / name / "results.json").write_text(json.dumps(content))


def test_the_index_links_every_result_with_what_it_found_in_the_order_of_the_run(
    tmp_path: Path,
) -> None:
    write(tmp_path, "steps", "They score alike.", "A definition.")
    write(tmp_path, "maze2d", "LDCQ is ahead.")
    assert main([str(tmp_path)]) == 0
    lines = [line for line in (tmp_path / "README.md").read_text().splitlines() if "](" in line]
    assert lines == [
        "| [Maze2D](maze2d/README.md) | Table 1 | small | 3 | 25 min | LDCQ is ahead. |",
        "| [Steps](steps/README.md) | Table 1 | small | 3 | 25 min | They score alike. |",
    ]


def test_the_index_says_what_data_its_results_are_of(tmp_path: Path) -> None:
    write(tmp_path, "steps", "They score alike.")
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "README.md").read_text()
    assert "No task of the paper was run on D4RL's own data" in page
    assert "All results are of scale `small`." in page


def test_a_folder_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "usage" in capsys.readouterr().err
