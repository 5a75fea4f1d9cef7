"""Maps of mazes as people write them: rows of characters, or gymnasium-robotics' lists of cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

WALL, FREE, START, GOAL, BOTH = "#", ".", "R", "G", "C"
SPELLINGS = {
    **{"#": WALL, "1": WALL, ".": FREE, " ": FREE, "0": FREE},
    **{"R": START, "r": START, "G": GOAL, "g": GOAL, "C": BOTH, "c": BOTH},
}
EXPECTED = (
    "expected a map: rows of '#' (wall), ' ' or '.' (free), 'R' (start), 'G' (goal) and 'C' "
    "(both), or gymnasium-robotics' lists of 1, 0, 'r', 'g' and 'c'"
)


def maze_rows(given: object) -> tuple[str, ...]:
    """Reads a map.

    Args:
        given: Rows, each a string or a list of cells.

    Returns:
        Rows of `#`, `.`, `R`, `G` and `C`.

    Raises:
        ValueError: It is no map, is no rectangle, is open, has no goal or several, or has free
            cells that no path joins.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(EXPECTED)
    rows = tuple(_row(number, row) for number, row in enumerate(given))
    if len(rows) < 3 or len({len(row) for row in rows}) != 1:
        widths = [len(row) for row in rows]
        raise ValueError(f"rows have widths {widths}; expected three rows or more, of one width")
    border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
    if set(border) != {WALL}:
        raise ValueError("the border is open; expected walls ('#') all around")
    goals = sum(cell in (GOAL, BOTH) for row in rows for cell in row)
    if goals != 1:
        raise ValueError(f"{goals} goals; expected exactly one 'G' (or 'C')")
    _check_joined(rows)
    return rows


def _row(number: int, row: object) -> str:
    if not isinstance(row, Iterable):
        raise ValueError(EXPECTED)
    cells = [str(cell) for cell in row]
    unknown = [cell for cell in cells if cell not in SPELLINGS]
    if unknown:
        raise ValueError(f"row {number} holds {unknown[0]!r}; {EXPECTED}")
    return "".join(SPELLINGS[cell] for cell in cells)


def _check_joined(rows: tuple[str, ...]) -> None:
    free = {
        (row, column)
        for row, cells in enumerate(rows)
        for column, cell in enumerate(cells)
        if cell != WALL
    }
    first = min(free)
    seen, queue = {first}, deque([first])
    while queue:
        row, column = queue.popleft()
        for cell in ((row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column)):
            if cell in free and cell not in seen:
                seen.add(cell)
                queue.append(cell)
    if seen != free:
        raise ValueError(
            f"no path joins the free cells {first} and {min(free - seen)} (row, column); expected "
            "one maze"
        )
