"""What launch/reproduce.py has left in a workdir: rows of effects, runs, figures; and what is missing, and why."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from configs.experiments import EXPERIMENTS, Experiment, Run
from launch import _runs, _summary
from launch._forks import last_error, log_of
from profit_jax.errors import InputError
from profit_jax.plots import records


class Problem(NamedTuple):
    """What is missing or damaged, and why."""

    what: str
    why: str


@dataclass
class Found:
    """A workdir. A run is read once, whatever the number of experiments that show it."""

    workdir: Path
    rows: list[_summary.Row]
    problems: dict[Run, list[Problem]] = field(default_factory=dict)  # what is damaged in a run's records
    environments: list[records.Record] = field(default_factory=list)  # as the runs recorded them
    _read: dict[Run, dict[int, records.Run]] = field(default_factory=dict, init=False)

    @property
    def experiments(self) -> list[str]:
        """The experiments that have rows or figures."""
        named = {row["experiment"] for row in self.rows}
        return [name for name in EXPERIMENTS if name in named or (self.workdir / "figures" / name).is_dir()]

    def of(self, name: str) -> list[_summary.Row]:
        """An experiment's rows."""
        return [row for row in self.rows if row["experiment"] == name]

    def experiment(self, name: str) -> Experiment:
        """An experiment at the scale that its command asked for; where no row tells, with all that searches try."""
        scale = self._asked(name, "scale")
        return _runs.at(EXPERIMENTS[name], scale) if scale else EXPERIMENTS[name]

    def seeds(self, name: str) -> Sequence[int]:
        """The seeds that an experiment's command asked for; where no row tells, those that are there."""
        experiment, asked = self.experiment(name), self._asked(name, "seeds")
        if asked:
            return experiment.seeds(int(asked))
        return sorted({seed for run in experiment.runs for seed, _ in self.done(run)})

    def done(self, run: Run) -> list[tuple[int, Path]]:
        """The seeds with which a run has been done, and their folders."""
        folders = [file.parent for file in (self.workdir / run.name).glob(f"seed*/{_runs.DONE}")]
        seeds = {folder: re.fullmatch(r"seed(\d{1,18})", folder.name, re.ASCII) for folder in folders}
        return sorted((int(seed[1]), folder) for folder, seed in seeds.items() if seed)  # others are not of a run

    def missing(self, name: str) -> Iterator[Problem]:
        """The runs of an experiment that have not been done, and its figures that have not been drawn."""
        experiment = self.experiment(name)
        there = {run: {seed for seed, _ in self.done(run)} for run in experiment.runs}
        for run in experiment.runs:
            for seed in self.seeds(name):
                if seed not in there[run]:
                    yield self._not_there(_runs.folder(run, seed))
        folder = self.workdir / "figures" / name
        if (
            experiment.figure
            and (experiment.of_data or any(there.values()))
            and not [*folder.glob("*.png"), *folder.glob("*.csv")]
        ):
            yield self._not_there(self.short(folder))

    def read(self, run: Run, seeds: Sequence[int]) -> list[records.Run]:
        """The records of a run with those of the seeds that have been done; damaged ones are among the problems."""
        if run not in self._read:
            self._read[run] = {}
            for seed, folder in self.done(run):
                try:
                    self._read[run][seed] = records.open_run(folder, run.name)
                    if (folder / "environment.json").exists():
                        self.environments.append(records.read_environment(folder / "environment.json"))
                except InputError as error:
                    self.note(run, self.problem(self.short(folder), error))
        return [self._read[run][seed] for seed in seeds if seed in self._read[run]]

    def note(self, run: Run, problem: Problem) -> None:
        """Keeps what is damaged in a run's records."""
        self.problems.setdefault(run, []).append(problem)

    def short(self, path: Path) -> str:
        """A path under the workdir."""
        return path.relative_to(self.workdir).as_posix()

    def problem(self, what: str, error: InputError) -> Problem:
        """The problem that an error tells of, with paths under the workdir."""
        why = str(error).replace(f"{self.workdir}/", "")
        return Problem(what, why.removeprefix(what).lstrip("/:, "))

    def _asked(self, name: str, flag: str) -> str:
        """What a flag of an experiment's command was given, or of the others' if it has no rows; else nothing."""
        rows = self.of(name) or self.rows
        found = re.search(rf"--{flag}=(\S+)", rows[0]["command"]) if rows else None
        return found[1] if found else ""

    def _not_there(self, name: str) -> Problem:
        log = log_of(self.workdir / "logs", name)
        if not log.exists():
            return Problem(name, "not done yet")
        return Problem(name, last_error(log) or f"its log gives no reason: {self.short(log)}")


def open_workdir(workdir: Path) -> Found:
    """Opens a workdir.

    Raises:
      InputError: it is none that reproduce has filled.
    """
    if not (workdir / _summary.FILE).is_file():
        raise InputError(f"{workdir} holds no {_summary.FILE}: give the --workdir that launch/reproduce.py has filled")
    return Found(workdir, _summary.read(workdir))
