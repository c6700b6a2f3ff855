"""How the numbers of a report were made: commands, configurations, environments."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from configs.experiments import Run
from launch import _fields
from launch._page import Cell, Settings, Table, number
from launch._summary import Row
from profit_jax.experiment.environment import environment
from profit_jax.plots import records


def settings(runs: Mapping[Run, Sequence[records.Run]]) -> list[Settings]:
    """For each launcher, what its runs share and what sets them apart, but for their seeds."""
    return [
        of_launcher(launcher, {run.name.split("/")[1]: read for run, read in runs.items() if run.launcher == launcher})
        for launcher in dict.fromkeys(run.launcher for run, read in runs.items() if read)
    ]


def of_launcher(launcher: str, runs: Mapping[str, Sequence[records.Run]]) -> Settings:
    """The settings of a launcher's runs."""
    fields = {name: dict(told(read[0].config)) for name, read in runs.items() if read}
    names = dict.fromkeys(field for each in fields.values() for field in each)
    apart = [field for field in names if len({each.get(field) for each in fields.values()}) > 1]
    shared = next(iter(fields.values()))
    return Settings(
        launcher,
        Table("Shared", ("field", "value"), [(Cell(name), Cell(shared[name])) for name in names if name not in apart]),
        Table(
            "What differs",
            ("run", "seeds", *apart),
            [
                (Cell(name, kind="name"), number(len(runs[name])), *(Cell(each.get(field, "-")) for field in apart))
                for name, each in fields.items()
            ],
        ),
    )


def told(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A config's fields and values, but for the seeds; a run that it starts from goes by its name."""
    for name, value in _fields.leaves(config):
        if name.split(".")[-1] != "seed":
            start = re.search(r"(?:^|/)(\w+/[^/]+)/seed\d+$", str(value))
            yield name, start[1] if start else value_text(value)


def value_text(value: Any) -> str:
    """A field's value, numbers with four digits."""
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) or "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "-"


def commands(rows: Sequence[Row]) -> list[str]:
    """The commands that made the rows; those that differ in the experiment alone are one."""
    merged: dict[tuple[str, ...], dict[str, None]] = {}
    for command in dict.fromkeys(row["command"] for row in rows):
        words = shlex.split(command)
        named = [word for word in words if word.startswith("--experiment=")]
        rest = tuple("--experiment=" if word in named else word for word in words)
        merged.setdefault(rest, {}).update(dict.fromkeys(word.removeprefix("--experiment=") for word in named))
    return [
        shlex.join(word + ",".join(names) if word == "--experiment=" else word for word in rest)
        for rest, names in merged.items()
    ]


def environments(recorded: Sequence[records.Record]) -> list[Table]:
    """What runs recorded of their environment, each different one once; without a record that of this process."""
    counts = Counter(tuple(each.items()) for each in recorded)
    captions = {each: f"As recorded by {count} run{'s' if count > 1 else ''}" for each, count in counts.items()}
    if not recorded:
        note = "Of the process that wrote this report: the runs recorded none"
        captions = {tuple(environment().items()): note}
    return [
        Table(caption, ("what", "value"), [(Cell(name), Cell(str(value))) for name, value in each])
        for each, caption in captions.items()
    ]
