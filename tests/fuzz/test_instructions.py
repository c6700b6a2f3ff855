"""Instruction files: JSON, JSON lines, CSV and parquet."""

import csv
import gc
import io
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.data.instructions import Instructions, load, render
from tests.fuzz import faults, law

ROWS = [
    {"instruction": f"Do é {i}.", "context": "here" if i else "", "response": f"done {i}", "category": "talk"}
    for i in range(3)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instructions") / "here"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(ROWS))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    datasets.Dataset.from_list(ROWS).to_parquet(folder / "a.parquet")
    with (folder / "a.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(ROWS[0]))
        table.writeheader()
        table.writerows(ROWS)
    return folder


def says(rows: list[dict[str, str]], found: Instructions) -> None:
    """Asserts that the examples are those of the rows with text, as the reader of another library gives them."""
    instruction = next(name for name in ("instruction", "question", "prompt") if any(name in row for row in rows))
    output = next(name for name in ("output", "response", "answer", "completion") if any(name in row for row in rows))
    context = next((name for name in ("input", "context") if any(name in row for row in rows)), "")
    usable = [row for row in rows if row[instruction].strip() and row[output].strip()]
    assert [example.query for example in found.examples] == [
        render(row[instruction], row.get(context) or "") for row in usable
    ]
    assert [example.targets for example in found.examples] == [(row[output],) for row in usable]
    assert found.dropped == len(rows) - len(usable)


def tried(file: Path, fault: bytes | str, rows) -> None:
    with faults.spoilt(file, fault):
        law.holds(lambda: load(str(file)), file.parent, [file], lambda found: says(rows(file.read_bytes()), found))


@law.cases
@given(st.one_of(faults.damaged_json(ROWS), faults.damaged_json(ROWS), st.sampled_from(faults.PLACES)))
def test_json(folder: Path, fault: bytes | str) -> None:
    tried(folder / "a.json", fault, _plain_json)


@law.cases
@given(faults.or_no_file(faults.damaged_lines(ROWS)))
def test_json_lines(folder: Path, fault: bytes | str) -> None:
    tried(folder / "a.jsonl", fault, _plain_json)


def _plain_json(content: bytes) -> list[dict[str, str]]:
    text = content.decode("utf-8-sig")
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.split("\n") if line.strip()]


@pytest.fixture
def swept() -> Iterator[None]:
    """pandas leaves the file of a table that it refuses to the garbage collector, which would warn in a later test."""
    yield
    gc.collect()


@pytest.mark.usefixtures("swept")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@law.cases
@given(st.data())
def test_csv(folder: Path, data: st.DataObject) -> None:
    fault = data.draw(faults.or_no_file(faults.damaged((folder / "a.csv").read_bytes())))
    tried(folder / "a.csv", fault, _plain_csv)


def _plain_csv(content: bytes) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
    return [*rows]


@law.cases
@given(st.data())
def test_parquet(folder: Path, data: st.DataObject) -> None:
    """Parquet has no checksum of its own here: what a flipped byte of a text says is what the file says."""
    fault = data.draw(faults.or_no_file(faults.damaged((folder / "a.parquet").read_bytes())))
    tried(folder / "a.parquet", fault, lambda content: pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist())
