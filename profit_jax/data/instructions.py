"""Instruction-tuning sets: published ones by name, and files (PerFIT, Section 5.1 and Appendices A and B).

    load("codealpaca", rows=20_000)  # from the Hugging Face hub
    load("codealpaca:…/code_alpaca_20k.json")  # a copy of it
    load("…/mine.jsonl", category="topic")  # any file whose columns have usual names
    load("tiny")  # the embedded set, generated: Dolly's columns and categories, and no download
    load("tiny:open_qa")  # one category of it, in the place of a set of one domain

A category, where a set has one, becomes the task type of its examples.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from profit_jax.data.examples import Example
from profit_jax.errors import InputError, nearest
from profit_jax.files import parse_json, read_lines, read_text
from profit_jax.rng import generator


class Columns(NamedTuple):
    """The columns of a set; "" where it has none."""

    instruction: str = "instruction"
    output: str = "output"
    input: str = ""
    category: str = ""


class Published(NamedTuple):
    """A set of the hub: its name there, its columns, and its configuration where there are several."""

    hub: str
    columns: Columns
    config: str | None = None


SETS = {
    "dolly": Published(
        "databricks/databricks-dolly-15k", Columns(output="response", input="context", category="category")
    ),
    # Its instruction is "Answer this question truthfully" in every row; PerFIT's Table 5 has the question instead.
    "medalpaca": Published("medalpaca/medical_meadow_medical_flashcards", Columns(instruction="input")),
    "codealpaca": Published("sahil2801/CodeAlpaca-20k", Columns(input="input")),
    "mathinstruct": Published("TIGER-Lab/MathInstruct", Columns(category="source")),
    "alpaca": Published("tatsu-lab/alpaca", Columns(input="input")),
    "gsm8k": Published("openai/gsm8k", Columns("question", "answer"), "main"),
}
_ALIASES = {
    "instruction": ("instruction", "question", "prompt"),
    "output": ("output", "response", "answer", "completion"),
    "input": ("input", "context"),
    "category": ("category",),
}
_FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}


class Table(NamedTuple):
    """Rows as they were read, before anything is asked of them."""

    rows: int
    columns: Mapping[str, Sequence[Any]]  # name -> a value for each row, None where it has none


class Instructions(NamedTuple):
    """A set's examples, and how many rows lacked an instruction or a response; rows are counted from 0."""

    examples: tuple[Example, ...]
    dropped: int
    first_dropped: int | None


def render(instruction: str, context: str = "") -> str:
    """Alpaca's prompt, with or without context (Taori et al. 2023; PerFIT, Table 4).

    The table prints it on three lines; the line breaks here are those of Alpaca's own file.

    >>> print(render("Name a prime."))
    Below is an instruction that describes a task. Write a response that appropriately completes the request.
    <BLANKLINE>
    ### Instruction:
    Name a prime.
    <BLANKLINE>
    ### Response:
    """
    paired = ", paired with an input that provides further context" if context.strip() else ""
    given = f"### Input:\n{context}\n\n" if paired else ""
    return (
        f"Below is an instruction that describes a task{paired}. Write a response that appropriately completes the "
        f"request.\n\n### Instruction:\n{instruction}\n\n{given}### Response:"
    )


def load(data: str, *, rows: int = 0, seed: int = 0, category: str = "") -> Instructions:
    """Loads a set as examples, in the source's order; rows with a blank instruction or response are left out.

    Args:
      data: a name of `SETS`, which is fetched from the hub; `tiny`, the embedded set, or `tiny:category`; a file
        (.json, .jsonl, .parquet or .csv); or `name:file`, a file with the columns of that set.
      rows: so many at random, without replacement; 0, or more than there are, means all.
      seed: of that draw.
      category: the column that holds the category, where it is not the usual one.

    Warns:
      UserWarning: rows were left out.

    Raises:
      InputError: no such set, file or category, one that cannot be read or reached, a missing column, a value that is
        not text, or no row to use.
    """
    if rows < 0:
        raise InputError(f"rows = {rows}: give how many rows to draw, or 0 for all")
    name, colon, file = data.partition(":")
    published = SETS.get("dolly" if name == "tiny" else name)
    path = Path(file if published else data)
    if name == "tiny":
        table, where = _embedded(file if colon else None), data
    elif published and not colon:
        table, where = _from_hub(name, published), published.hub
    else:
        table, where = _from_file(path, data), str(path)
    task = name if published else path.stem
    columns = _columns(table, published, category, where)
    texts = [_texts(table, column, field, where) for field, column in columns._asdict().items()]
    examples, dropped = [], []
    for row, (instruction, output, context, kind) in enumerate(zip(*texts)):
        if instruction.strip() and output.strip():
            examples.append(Example(f"{task}-{row}", render(instruction, context), (output,), task, kind))
        else:
            dropped.append(row)
    if not examples:
        raise InputError(f"{where}: none of the {table.rows} rows has both an instruction and a response")
    if dropped:
        warnings.warn(
            f"{where}: {len(dropped)} rows without an instruction or a response left out, the first is row "
            f"{dropped[0]} (counted from 0)",
            stacklevel=2,
        )
    if 0 < rows < len(examples):
        drawn = generator(seed, "rows").choice(len(examples), rows, replace=False)
        examples = [examples[number] for number in sorted(drawn.tolist())]
    return Instructions(tuple(examples), len(dropped), dropped[0] if dropped else None)


def _embedded(category: str | None) -> Table:
    from profit_jax.data import tiny  # here, because its pretraining text is in this module's template

    if category is not None and category not in tiny.CATEGORIES:
        raise InputError(f"tiny:{category}: no such category; the embedded set has {', '.join(tiny.CATEGORIES)}")
    return _by_column([row for row in tiny.instructions() if category in (None, row["category"])])


def _by_column(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The values of each column that any of the rows has; None where a row has it not."""
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(len(rows), {name: [row.get(name) for row in rows] for name in names})


def _from_hub(name: str, published: Published) -> Table:
    import datasets

    try:
        with _quiet():
            found = datasets.load_dataset(published.hub, published.config, split="train")
            return Table(len(found), found.to_dict())  # pyrefly: ignore[bad-argument-type]  not in batches
    except Exception as error:  # of the network, the hub, the cache or the file: they have no type in common
        reason = f"{published.hub} cannot be loaded from the hub ({_reason(error)})"
        raise InputError(f"{reason}: give a local file of it as '{name}:FILE'") from None


def _from_file(path: Path, data: str) -> Table:
    """Reads a file whole and afresh: no cache is kept which a later change of the file could make stale."""
    if not os.path.isfile(path):  # which a name that is too long is not
        name = data.partition(":")[0]
        if name in SETS:
            raise InputError(f"{data}: no such file; give one that exists, or {name!r} alone to fetch it from the hub")
        near = nearest(name, [*SETS, "tiny"])
        known = f"did you mean {near!r}?" if near else f"the known sets are {', '.join(SETS)}, tiny"
        raise InputError(f"{data}: neither a file that exists nor a known set; {known}")
    if not (kind := _FORMATS.get(path.suffix.lower())):
        raise InputError(f"{path}: cannot read {path.suffix!r} files; give one of {', '.join(_FORMATS)}")
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    return _by_column(_json_rows(path)) if kind == "json" else _columnar(path, kind)


def _json_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list, or of lines. Arrow's reader of JSON overflows the stack on deep nesting."""
    text = read_text(path).lstrip()
    if not text.startswith("["):
        return [*read_lines(path).objects.values()]
    rows = parse_json(text, str(path))
    for row, value in enumerate(rows):
        if not isinstance(value, dict):
            raise InputError(f"{path}: row {row} (counted from 0) is not a JSON object")
    return rows


def _columnar(path: Path, kind: str) -> Table:
    """A CSV or a parquet file."""
    import datasets

    try:
        options: dict[str, Any] = {}
        if kind == "csv":  # all columns are text; a number is not to be read as one, nor "NA" as nothing
            with path.open(newline="", encoding="utf-8-sig") as lines:
                header = next(filter(None, csv.reader(lines)), [])
            if len({*header}) < len(header):
                raise ValueError("two columns have one name")
            features = datasets.Features({column: datasets.Value("string") for column in header})
            options |= {"features": features, "na_filter": False, "index_col": False}
        with _quiet(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as cache:
            warnings.filterwarnings("error", message="Length of header")  # lines longer than a CSV file's header
            file = glob.escape(str(path))
            found = datasets.load_dataset(
                kind, data_files=file, split="train", cache_dir=cache, keep_in_memory=True, **options
            )
            return Table(len(found), found.to_dict())
    except Exception as error:  # of `datasets`, pyarrow, pandas, csv or the system: they have no type in common
        raise InputError(f"{path}: cannot be read as {kind}: {_reason(error)}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no log lines about errors which are raised as well."""
    import datasets

    bars, verbosity = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
    if bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def _reason(error: Exception) -> str:
    """The first line of what `datasets` wraps, which says more than the wrapping."""
    cause = error.__cause__ or error
    return next(iter(str(cause).splitlines()), type(cause).__name__)


def _columns(table: Table, published: Published | None, category: str, where: str) -> Columns:
    """The set's columns, all of which the table has."""
    there = [*table.columns]
    if published:
        columns = published.columns
    else:
        found = {field: next((a for a in names if a in there), "") for field, names in _ALIASES.items()}
        columns = Columns(**found)
    if category:
        columns = columns._replace(category=category)
    for field, column in columns._asdict().items():
        if column and column not in there:
            raise InputError(f"{where}: no column {column!r} for the {field}; the columns are {', '.join(there)}")
        if not column and field in ("instruction", "output"):
            names = ", ".join(_ALIASES[field])
            raise InputError(f"{where}: no column for the {field}, named one of {names}; found {', '.join(there)}")
    return columns


def _texts(table: Table, column: str, field: str, where: str) -> Sequence[str]:
    """A column's texts; empty where an input or category is absent."""
    if not column:
        return [""] * table.rows
    values = table.columns[column]
    if field in ("input", "category"):
        values = ["" if value is None else value for value in values]
    for row, value in enumerate(values):
        if not isinstance(value, str):
            found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
            place = f"row {row} (counted from 0), column {column!r}"
            raise InputError(f"{where}: {place}: expected text, found {found}; write it as text or take the row out")
    return values
