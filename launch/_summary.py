"""What experiments come to: rows of effects and choices, read from the records of their runs, and tables of them."""

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from configs.experiments import EXPERIMENTS, Choice, Effect, Experiment
from launch._runs import folder
from launch._tables import write_csv
from profit_jax.checks import all_are, has, is_count, is_number, is_text
from profit_jax.errors import InputError
from profit_jax.files import read_lines, write_whole
from profit_jax.plots import effects, labels, measures, records

Row = dict[str, Any]
Measured = dict[str, float | None]  # of a run, by the measure's name
Name = TypeVar("Name")  # of what is compared

FILE = "effects.jsonl"
CHOSEN = "learning_rates"  # of a search, beside figures: the paper's table


def rows(
    name: str, experiment: Experiment, workdir: Path, seeds: Sequence[int], done: set[str], command: str
) -> list[Row]:
    """A row for each effect and for each run that is chosen among, from the runs that have been done."""
    found = [_effect(effect, workdir, seeds, done) for effect in experiment.effects]
    for choice in experiment.choices:
        found += _choice(choice, workdir, seeds[0], done)
    return [{"experiment": name, **row, "command": command} for row in found]


def write(workdir: Path, new: Sequence[Row]) -> str:
    """Writes what experiments have come to; returns their tables.

    `effects.jsonl` and `effects.md` keep the rows of other experiments; what a search of several chose is a CSV too.
    """
    names = {row["experiment"] for row in new}
    kept = [row for row in read(workdir) if row["experiment"] in EXPERIMENTS.keys() - names]
    write_whole(workdir / FILE, "".join(json.dumps(row) + "\n" for row in (*kept, *new)))
    write_whole(workdir / "effects.md", report((*kept, *new)))
    for name in names:
        if len(EXPERIMENTS[name].choices) > 1:
            write_csv(chosen(_of(name, new)), workdir / "figures" / name / f"{CHOSEN}.csv")
    return report(new)


def read(workdir: Path) -> list[Row]:
    """The rows that have been written; none where there is no file.

    Raises:
      InputError: a damaged file.
    """
    file = workdir / FILE
    rows = read_lines(file, "remove it").objects if file.exists() else {}
    for number, row in rows.items():
        experiment = EXPERIMENTS.get(str(row.get("experiment")))
        is_row = (_is_choice if experiment.choices else _is_effect) if experiment else _is_unknown
        if not is_row(row):
            raise InputError(f"{file}, line {number}: no row of an experiment; remove it")
    return [*rows.values()]


def _is_estimate(value: Any) -> bool:
    """Whether this is an `effects.Estimate`: a mean, if there is one, and both ends of its interval or neither."""
    numbers = isinstance(value, dict) and [value.get(name) for name in effects.Estimate._fields]
    return bool(numbers) and (all(map(is_number, numbers)) or (numbers[1:] == [None] * 2 and _is_mean(numbers[0])))


def _is_mean(value: Any) -> bool:
    return value is None or is_number(value)


def _is_side(value: Any) -> bool:
    return _is_estimate(value) and has(run=is_text, values=all_are(is_number, list))(value)


_has_effect = has(
    experiment=is_text,
    command=is_text,
    label=is_text,
    measure=is_text,
    paper=("", *effects.AGREES).__contains__,
    found=effects.FOUND.__contains__,
    seeds=all_are(is_count, list),
    a=_is_side,
    b=_is_side,
    difference=_is_estimate,
)


def _is_effect(row: Any) -> bool:
    """Whether this is a row of an effect, with a value of each side for each seed."""
    return _has_effect(row) and all(len(row[side]["values"]) == len(row["seeds"]) for side in "ab")


_is_unknown = has(experiment=is_text, command=is_text)  # of an experiment that is no more; it is named, not shown


_is_choice = has(
    experiment=is_text,
    command=is_text,
    line=is_text,
    column=is_text,
    run=is_text,
    fields=all_are(is_number),
    values=all_are(is_number),
    best=lambda value: isinstance(value, bool),
)


def report(rows: Sequence[Row]) -> str:
    """A section for each experiment: claim, command, table."""
    sections = []
    for name, experiment in EXPERIMENTS.items():
        if own := _of(name, rows):
            tables = [_chosen(own), *_choices(own)] if experiment.choices else [_effects(own)]
            parts = (f"## {name}: {experiment.title}", experiment.claim, f"    {own[0]['command']}", *tables)
            sections.append("\n\n".join(parts))
    return "\n\n".join(sections) + "\n"


def _of(name: str, rows: Iterable[Row]) -> list[Row]:
    """An experiment's rows."""
    return [row for row in rows if row["experiment"] == name]


@functools.cache
def _run(path: Path) -> records.Run:
    return records.open_run(path, str(path))


def _effect(effect: Effect, workdir: Path, seeds: Sequence[int], done: set[str]) -> Row:
    """A - B over the seeds that both have."""
    pairs = {}
    for seed in seeds:
        a, b = folder(effect.a, seed), folder(effect.b, seed)
        if {a, b} <= done:
            pairs[seed] = measures.both(effect.measure, _run(workdir / a), _run(workdir / b), effect.points)
    result = effects.difference(pairs)
    row: Row = {
        "label": _filled(effect, workdir, seeds, done),
        "measure": effect.measure,
        "points": list(effect.points),
    }
    row |= {"paper": effect.paper, "found": result.found, "seeds": list(result.seeds)}
    for side, run, estimate in (("a", effect.a, result.a), ("b", effect.b, result.b)):
        values = [pair["ab".index(side)] for pair in pairs.values()]
        row[side] = {"run": run.name, **estimate._asdict(), "values": values}
    return row | {"difference": result.difference._asdict()}


def _filled(effect: Effect, workdir: Path, seeds: Sequence[int], done: set[str]) -> str:
    """The effect's label, with what the config of one of its runs holds."""
    folders = [folder(run, seed) for run in (effect.a, effect.b) for seed in seeds]
    config = next((_run(workdir / each).config for each in folders if each in done), None)
    return labels.filled(effect.label, config) if config else effect.label


def _choice(choice: Choice, workdir: Path, seed: int, done: set[str]) -> list[Row]:
    """The measures of each run, and which is the best."""
    values = {
        run: measured(workdir / folder(run, seed), choice.measures) for run in choice.runs if folder(run, seed) in done
    }
    highest = best(values)
    return [
        {
            "line": choice.line,
            "column": choice.column,
            "run": run.name,
            "fields": dict(run.fields),
            "values": numbers,
            "best": run == highest,
        }
        for run, numbers in values.items()
    ]


def measured(run: Path, names: Sequence[str]) -> Measured:
    """Measures of the run in a folder; None where its loss has not stayed finite."""
    read = _run(run)
    lost = any(not math.isfinite(row["loss"]) for row in read.rounds)
    return {name: None if lost else measures.measure(name, read) for name in names}


def best(values: Mapping[Name, Measured]) -> Name | None:
    """The name with the best measures (`effects.best`); None where all have diverged."""
    found: dict[Name, tuple[Any, ...]] = {
        name: tuple(each.values()) for name, each in values.items() if None not in each.values()
    }
    return effects.best(found) if found else None


def chosen(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The best of each choice, as in the paper's table: head and lines, of rates the server's before the client's."""
    rates = {(row["line"], row["column"]): row["fields"] for row in rows if row["best"]}
    columns = dict.fromkeys(row["column"] for row in rows)
    return [
        ("", *columns),
        *(
            (line, *(", ".join(f"{rate:.3g}" for rate in rates.get((line, column), {}).values()) for column in columns))
            for line in dict.fromkeys(row["line"] for row in rows)
        ),
    ]


def by_choice(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each choice."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["line"], row["column"]), []).append(row)
    return [*groups.values()]


def _effects(rows: Sequence[Row]) -> str:
    head = ("A, B", "measure", "A", "B", "A - B (95 %)", "seeds", "the paper: A is", "found: A is")
    return markdown(
        head,
        (
            (
                row["label"],
                row["measure"],
                *(_estimate(row[side]).text() for side in "ab"),
                _estimate(row["difference"]).text("+"),
                str(len(row["seeds"])),
                row["paper"],
                row["found"],
            )
            for row in rows
        ),
    )


def _chosen(rows: Sequence[Row]) -> str:
    head, *lines = chosen(rows)
    return markdown(head, ([cell or "-" for cell in line] for line in lines))


def _choices(rows: Sequence[Row]) -> Iterator[str]:
    for group in by_choice(rows):
        fields, names = group[0]["fields"], group[0]["values"]
        cells = (
            (
                *(f"{value:g}" for value in row["fields"].values()),
                *map(number, row["values"].values()),
                "best" if row["best"] else "",
            )
            for row in group
        )
        yield f"{group[0]['line']}, {group[0]['column']}:\n\n{markdown((*fields, *names, ''), cells)}"


def number(value: float | None) -> str:
    """A measure in four digits."""
    return "diverged" if value is None else f"{value:.4g}"


def _estimate(row: Row) -> effects.Estimate:
    return effects.Estimate(row["mean"], row["low"], row["high"])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, aligned to be read as it is."""
    lines = [head, *rows]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])
