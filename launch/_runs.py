"""The runs of experiments: the command of each, whether it has been done, and doing it.

A run that has been done has a file `done.json` beside its records: what the run is made of, by which it is known again
without starting anything.
"""

import importlib
import json
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from configs.experiments import Experiment, Run
from launch import _fields
from launch._forks import Forks
from launch._main import arguments_of
from profit_jax.errors import InputError
from profit_jax.files import read_object, write_whole
from profit_jax.progress import Progress

DONE = "done.json"


@dataclass(frozen=True)
class Options:
    """What all runs share."""

    scale: str
    workdir: Path
    shared: Mapping[str, str]  # fields of whichever config has them
    data: Sequence[str] = ()  # NAME:FILE of instruction sets, or a file for all
    flags: Mapping[str, str] = field(default_factory=dict)  # --mesh, --log: a run is known again without them


@dataclass(frozen=True)
class Job:
    """A run with one seed."""

    name: str  # its folder under the workdir
    arguments: list[str]  # to Python
    made_of: dict[str, Any]  # the launcher, the resolved config, what overrides it, and the same of the start
    start: str | None  # the job that must be done before it


def folder(run: Run, seed: int) -> str:
    """Where a run with a seed goes, under the workdir."""
    return f"{run.name}/seed{seed}"


def plan(runs: Iterable[tuple[Run, int]], options: Options) -> list[Job]:
    """The jobs of runs with seeds, each once, what one starts from before it.

    Raises:
      InputError: no config at this scale, or a shared field that no config has.
    """
    jobs: dict[str, Job] = {}
    # Both papers' configs: a command with settings for both does one paper's experiments too.
    launchers = {"profit_train": None, "perfit_train": None}
    for run, seed in runs:
        launchers = {run.launcher: None, **launchers}
        if folder(run, seed) not in jobs:
            jobs[folder(run, seed)] = _job(run, seed, options, jobs)
    for name in options.shared:
        if not any(_fields.has(config_of(Run(launcher, ""), options.scale), name) for launcher in launchers):
            raise InputError(f"no config has a field {name!r}")
    return [*jobs.values()]


def config_of(run: Run, scale: str) -> ConfigDict:
    """The config of a run at a scale."""
    return _module(run, scale).get_config(run.names)


def at(experiment: Experiment, scale: str) -> Experiment:
    """The experiment at a scale, whose config file may say with SEARCHED what searches try."""
    choices = (choice.at(getattr(_module(choice.run, scale), "SEARCHED", {})) for choice in experiment.choices)
    return replace(experiment, choices=tuple(choices))


def _module(run: Run, scale: str) -> ModuleType:
    name = f"configs.{package(run)}.{scale}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise InputError(f"no scale {scale!r}: no file {name.replace('.', '/')}.py") from None


def package(run: Run) -> str:
    """The folder of the run's config: profit, perfit."""
    return run.launcher.split("_")[0]


def _job(run: Run, seed: int, options: Options, jobs: Mapping[str, Job]) -> Job:
    config = config_of(run, options.scale)
    fields = {name: value for name, value in options.shared.items() if _fields.has(config, name)}
    for data in options.data if "data" in config else ():
        name, _, file = data.rpartition(":")
        if file and name in ("", config.data.split(":")[0]):
            fields["data"] = data
    fields |= {name: repr(value) for name, value in run.fields} | {"seed": str(seed)}
    if "personalize" in config:
        fields["personalize.seed"] = str(seed)  # an end-to-end trial: the test clients are drawn anew too
    start = folder(run.start, seed) if run.start else None
    made_of = {
        "launcher": run.launcher,
        "config": config.to_dict(),
        "fields": dict(fields),
        "start": jobs[start].made_of if start else None,
    }
    if start:
        fields["personalize.start" if "personalize" in config else "start"] = str(options.workdir / start)
    flags = {
        "config": f"configs/{package(run)}/{options.scale}.py:{run.names}",
        **{f"config.{name}": value for name, value in fields.items()},
        **options.flags,
        "workdir": options.workdir / folder(run, seed),
    }
    return Job(folder(run, seed), arguments_of(run.launcher, **flags), json.loads(json.dumps(made_of)), start)


def is_done(job: Job, workdir: Path) -> bool:
    """Whether the job has been done.

    Raises:
      InputError: its folder holds something else that has been done.
    """
    file = workdir / job.name / DONE
    if not file.exists():
        return False
    again = f"remove {file.parent} to do that run again"
    made_of = read_object(file, again).get("made_of")
    if not isinstance(made_of, dict):
        raise InputError(f"{file}: 'made_of' is missing or damaged; {again}")
    before = dict(_fields.leaves(made_of))
    now = dict(_fields.leaves(job.made_of))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise InputError(f"{file.parent} holds a run with another {name}; remove it, or choose another --workdir")
    return True


def do(jobs: Sequence[Job], workdir: Path, forks: Forks) -> tuple[set[str], dict[str, str]]:
    """Does the jobs that have not been done; returns the names of those, and which of them failed, with the reason.

    Raises:
      InputError: a folder holds another run; found before anything is started.
    """
    waiting = [job for job in jobs if not is_done(job, workdir)]
    print(f"{len(jobs)} runs, {len(jobs) - len(waiting)} of them there already; logs in {workdir / 'logs'}", flush=True)
    begun: dict[str, Future[str]] = {}

    def one(job: Job) -> str:
        """Why the job failed, or nothing."""
        # What a job starts from was begun before it, so waiting for it comes to an end.
        if job.start in begun and begun[job.start].result():
            return f"{job.start} failed"
        started = time.perf_counter()
        reason = forks(job.name, job.arguments)
        if not reason:
            done = {"command": shlex.join(["python", *job.arguments]), "made_of": job.made_of}
            write_whole(workdir / job.name / DONE, json.dumps(done, indent=1) + "\n")
        with lock:
            shown.say(f"{job.name}: {reason or f'{time.perf_counter() - started:.0f} s'}")
            shown.advance()
        return reason

    lock = threading.Lock()
    with Progress("runs", len(waiting), "runs") as shown, ThreadPoolExecutor(forks.count) as threads:
        try:
            for job in waiting:
                begun[job.name] = threads.submit(one, job)
            reasons = {name: future.result() for name, future in begun.items()}
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return {*begun}, {name: reason for name, reason in reasons.items() if reason}
