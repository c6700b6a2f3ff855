"""Searches config fields: a run for every point of a grid, one table of what they come to, and the best.

    python -m launch.sweep --config=configs/profit/tiny.py:hhf,fed_avg_adam --config.data_dir=runs/demo/data \
        --grid=server_optimizer.learning_rate=0.01,0.1,1 --grid=client_optimizer.learning_rate=0.01,0.1 \
        --workdir=runs/sweep
    python -m launch.sweep --launcher=perfit_train --config=configs/perfit/tiny.py:dolly,pathological,perfit,r16 \
        --grid=client_optimizer.learning_rate=0.01,0.03 --grid=metric=first,second --workdir=runs/sweep-perfit

Points of stage 1 that differ in learning rates alone are trained side by side in one compiled round, `--at_once` of
them at most; other points are runs of their own, `--jobs` at a time. What has been done is not done again, and what
was stopped goes on from its checkpoint.

The best is the one with the highest first measure (profit_jax/plots/measures.py): of stage 1 the score on a global set
of validation clients and, of points within 5 % of the best, how well it trains; of stage 2, which is searched with
personalize.split=validation, the best local score and then the global score kept; of PerFIT 1 / perplexity. Writes
sweep.jsonl and sweep.md, the best first.
"""

import ast
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from launch import _fields, _parts, _runs
from launch._done import Done
from launch._forks import Forks
from launch._main import (
    arguments_of,
    command,
    define_config,
    define_log,
    define_mesh,
    run,
    shared_flags,
    watching,
    writers,
)
from launch._summary import best, markdown, measured, number
from profit_jax.errors import InputError

MEASURES = {
    "profit_train": ("validation", "likelihood_trained"),
    "profit_personalize": ("local", "global_kept"),
    "perfit_train": ("likelihood",),
}
RATES = ("server_optimizer.learning_rate", "client_optimizer.learning_rate")  # as `profit_train --rates` takes them

CONFIG = define_config()
LOG = define_log()
define_mesh(None)
LAUNCHER = flags.DEFINE_enum("launcher", "profit_train", sorted(MEASURES), "Whose config it is.")
GRID = flags.DEFINE_multi_string("grid", [], "FIELD=VALUE,VALUE,…: a field of the config and what it takes.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where runs and the table go.", required=True)
AT_ONCE = flags.DEFINE_integer("at_once", 16, "Settings that are trained side by side at most.", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 1, "Runs side by side; on a GPU each takes its memory.", lower_bound=1)

Point = dict[str, Any]  # field -> value


def main(argv: Sequence[str]) -> Done:
    """Runs the grid and writes the table."""
    del argv
    writers(LOG.value)  # one that is not installed is told here, not by each run
    workdir, points, names = Path(WORKDIR.value), grid(GRID.value, CONFIG.value), MEASURES[LAUNCHER.value]
    parts = [*shared(points)]
    jobs = [job_of(part, workdir) for part in parts]
    with Forks(workdir, JOBS.value) as forks:
        _, failed = _runs.do(jobs, workdir, forks)
    rows = [
        {"run": folder, "fields": point, "values": measured(workdir / folder, names)}
        for part, job in zip(parts, jobs, strict=True)
        for point, folder in zip(part, folders(part, job.name), strict=True)
        if job.name not in failed
    ]
    print(f"\n{write(workdir, rows)}")
    if failed:
        raise InputError(f"{len(failed)} failed: {'; '.join(f'{name} ({why})' for name, why in failed.items())}")
    drawn = command("plot", workdir=",".join(str(workdir / row["run"]) for row in rows), out=workdir / "figures")
    following = [drawn, *watching(LOG.value, WORKDIR.value)]
    return Done(f"{len(rows)} runs done, each an ordinary one", workdir / "sweep.md", following)


def grid(fields: Sequence[str], config: ConfigDict) -> list[Point]:
    """The points of the grid, the last field fastest.

    Raises:
      InputError: no field, one that the config does not have or that is given twice, or a value of another type.
    """
    values: dict[str, list[Any]] = {}
    for each in fields:
        name, equals, given = each.partition("=")
        if not equals or not given or name in values:
            raise InputError(f"--grid={each}: give FIELD=VALUE,VALUE,…, each field once")
        if not _fields.has(config, name):
            meant = f"; did you mean {near}?" if (near := _fields.near(config, name)) else ""
            raise InputError(f"--grid={each}: the config has no such field{meant}")
        values[name] = parsed(given)
        for value in values[name]:
            try:
                ConfigDict(config.to_dict()).update_from_flattened_dict({name: value})
            except (TypeError, ValueError):
                raise InputError(f"--grid={each}: {value!r} is of another type than {name}'s value") from None
    if not values:
        raise InputError("give --grid=FIELD=VALUE,VALUE,…")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def parsed(values: str) -> list[Any]:
    """Python's literals, or words.

    >>> parsed("0.1,1"), parsed("first,second"), parsed("(0.5,),(0.25, 0.5)")
    ([0.1, 1], ['first', 'second'], [(0.5,), (0.25, 0.5)])
    """
    try:
        return ast.literal_eval(f"[{values}]")
    except (ValueError, SyntaxError):
        return values.split(",")


def shared(points: Sequence[Point]) -> Iterator[list[Point]]:
    """The points of each job: of stage 1 those that differ in learning rates alone, else one."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(repr(unlike(point)), []).append(point)
    for group in groups.values():
        yield from (group[at : at + AT_ONCE.value] for at in range(0, len(group), AT_ONCE.value))


def unlike(point: Point) -> Point:
    """The fields that take a job of their own."""
    alike = RATES if LAUNCHER.value == "profit_train" else ()
    return {field: value for field, value in point.items() if field not in alike}


def job_of(points: Sequence[Point], workdir: Path) -> _runs.Job:
    """The command that trains the points."""
    flag, config = flags.FLAGS["config"], CONFIG.value
    own, rates = points[0] if len(points) == 1 else unlike(points[0]), []
    name = "-".join(f"{field}={value}" for field, value in own.items())
    if len(points) > 1:
        rates = [rates_of(point) for point in points]
        name = "-".join((*([name] if name else []), "rates", hashlib.sha1(repr(rates).encode()).hexdigest()[:8]))
    fields = config_flags.get_override_values(flag) | own
    arguments = arguments_of(
        LAUNCHER.value,
        config=config_flags.get_config_filename(flag),
        **{f"config.{field}": value for field, value in fields.items()},
        **shared_flags(),
        workdir=workdir / name,
    )
    arguments += [f"--rates={server!r},{client!r}" for server, client in rates]
    made_of = {"launcher": LAUNCHER.value, "config": config.to_dict(), "fields": fields, "rates": rates, "start": None}
    return _runs.Job(name, arguments, json.loads(json.dumps(made_of)), None)


def rates_of(point: Point) -> tuple[float, float]:
    """Learning rates of server and clients: the point's, else the config's."""
    leaves = dict(_fields.leaves(CONFIG.value.to_dict())) | point
    server, client = (float(leaves[field]) for field in RATES)
    return server, client


def folders(points: Sequence[Point], job: str) -> list[str]:
    """Where the job leaves the run of each point."""
    return [job] if len(points) == 1 else [f"{job}/{_parts.setting(*rates_of(point))}" for point in points]


def write(workdir: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Writes sweep.jsonl and sweep.md, the best first; returns the table."""
    chosen = best({row["run"]: row["values"] for row in rows})
    ranked = sorted(rows, key=lambda row: (row["run"] == chosen, *map(high, row["values"].values())), reverse=True)
    ranked = [row | {"best": row["run"] == chosen} for row in ranked]
    (workdir / "sweep.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ranked), encoding="utf-8")
    table = markdown(
        (*(ranked[0]["fields"] if ranked else ()), *MEASURES[LAUNCHER.value], "", "run"),
        (
            (
                *(f"{value:g}" if isinstance(value, float) else str(value) for value in row["fields"].values()),
                *map(number, row["values"].values()),
                "best" if row["best"] else "",
                row["run"],
            )
            for row in ranked
        ),
    )
    (workdir / "sweep.md").write_text(table + "\n", encoding="utf-8")
    return table


def high(value: float | None) -> float:
    """How high a measure is: where a run has diverged, lower than any."""
    return -math.inf if value is None else value


if __name__ == "__main__":
    run(main)
