"""What experiments come to: rows of effects and choices, read from the records of their runs, and tables of them."""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.experiments import EXPERIMENTS, Choice, Effect, Experiment
from launch._runs import folder
from profit_jax.errors import InputError
from profit_jax.plots import effects, labels, measures, records

Row = dict[str, Any]

FILE = "effects.jsonl"


def rows(
    name: str, experiment: Experiment, workdir: Path, seeds: Sequence[int], done: set[str], command: str
) -> list[Row]:
    """A row for each effect and for each run that is chosen among, from the runs that have been done."""
    found = [_effect(effect, workdir, seeds, done) for effect in experiment.effects]
    for choice in experiment.choices:
        found += _choice(choice, workdir, seeds[0], done)
    return [{"experiment": name, **row, "command": command} for row in found]


def write(workdir: Path, new: Sequence[Row]) -> str:
    """Writes `effects.jsonl` and `effects.md`, keeping the rows of other experiments; returns the tables of `new`."""
    names = {row["experiment"] for row in new}
    kept = [row for row in read(workdir) if row["experiment"] in EXPERIMENTS.keys() - names]
    (workdir / FILE).write_text("".join(json.dumps(row) + "\n" for row in (*kept, *new)), encoding="utf-8")
    (workdir / "effects.md").write_text(report((*kept, *new)), encoding="utf-8")
    return report(new)


def read(workdir: Path) -> list[Row]:
    """The rows that have been written; none where there is no file.

    Raises:
      InputError: a damaged file.
    """
    file = workdir / FILE
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); remove it") from None


def report(rows: Sequence[Row]) -> str:
    """A section for each experiment: claim, command, table."""
    sections = []
    for name, experiment in EXPERIMENTS.items():
        own = [row for row in rows if row["experiment"] == name]
        if own:
            tables = [_chosen(own), *_choices(own)] if experiment.choices else [_effects(own)]
            parts = (f"## {name}: {experiment.title}", experiment.claim, f"    {own[0]['command']}", *tables)
            sections.append("\n\n".join(parts))
    return "\n\n".join(sections) + "\n"


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
    row = {"label": _filled(effect, workdir, seeds, done), "measure": effect.measure, "points": list(effect.points)}
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
    values = {}
    for run in choice.runs:
        if folder(run, seed) in done:
            read = _run(workdir / folder(run, seed))
            values[run] = [measures.measure(measure, read) for measure in choice.measures]
    best = effects.best(values) if values else None
    return [
        {
            "line": choice.line,
            "column": choice.column,
            "run": run.name,
            "fields": dict(run.fields),
            "values": dict(zip(choice.measures, numbers, strict=True)),
            "best": run == best,
        }
        for run, numbers in values.items()
    ]


def chosen(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The best of each choice, as in the paper's table: head and lines, of rates the server's before the client's."""
    best = {(row["line"], row["column"]): row["fields"] for row in rows if row["best"]}
    columns = dict.fromkeys(column for _, column in best)
    return [
        ("", *columns),
        *(
            (line, *(", ".join(f"{rate:.3g}" for rate in best.get((line, column), {}).values()) for column in columns))
            for line in dict.fromkeys(line for line, _ in best)
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
    return markdown(head, lines)


def _choices(rows: Sequence[Row]) -> Iterator[str]:
    for group in by_choice(rows):
        fields, names = group[0]["fields"], group[0]["values"]
        cells = (
            (
                *(f"{value:g}" for value in row["fields"].values()),
                *(f"{value:.4g}" for value in row["values"].values()),
                "best" if row["best"] else "",
            )
            for row in group
        )
        yield f"{group[0]['line']}, {group[0]['column']}:\n\n{markdown((*fields, *names, ''), cells)}"


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
