"""Tables as CSV files."""

import csv
from collections.abc import Sequence
from pathlib import Path

Table = Sequence[Sequence[object]]  # head and rows


def write_csv(table: Table, path: Path) -> Path:
    """Writes a table, unrounded, over an older one; an empty field where there is no such number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    return path
