import json
from pathlib import Path

import pytest

from experiments.index import main


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    (folder / name).mkdir()
    content = {
        "title": name.title(), "paper": "Table 1", "scale": "small", "seeds": [0, 1, 2],
        "seconds": 1500.0, "rows": rows,
    }  # fmt: skip
    (folder / name / "results.json").write_text(json.dumps(content))


def test_the_index_links_every_result_in_the_order_of_the_run(tmp_path: Path) -> None:
    score = {"mean": 203.24, "ci_low": 1.0, "ci_high": 2.0}
    write(tmp_path, "steps", [{"method": "ldcq", "first_hit": score, "return": score}] * 2)
    write(tmp_path, "maze2d", [{"method": "ldcq", "first_hit": score, "return": score}])
    assert main([str(tmp_path)]) == 0
    lines = [line for line in (tmp_path / "README.md").read_text().splitlines() if "](" in line]
    assert lines == [
        "| [Maze2D](maze2d/README.md) | Table 1 | small | 3 | 25 min "
        "| ldcq first hit 203.2 [1.00, 2.00] |",
        "| [Steps](steps/README.md) | Table 1 | small | 3 | 25 min | see its figures |",
    ]


def test_the_score_is_named_where_it_is_success(tmp_path: Path) -> None:
    score = {"mean": 203.24, "ci_low": 1.0, "ci_high": 2.0}
    success = {"mean": 64.0, "ci_low": 50.0, "ci_high": 75.0}
    row: dict[str, object] = {"method": "ldcq", "first_hit": None, "return": score}
    write(tmp_path, "steps", [row | {"success_score": success}])
    assert main([str(tmp_path)]) == 0
    assert "ldcq success % 64.0 [50.0, 75.0]" in (tmp_path / "README.md").read_text()


def test_a_folder_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "usage" in capsys.readouterr().err
