"""Reproduces figures and tables of the papers: does their runs over seeds, draws them and sums up the effects.

    python -m launch.reproduce --list                                  # what there is, and what it costs
    python -m launch.reproduce --list --experiment=profit/figure5      # one of them in full
    python -m launch.reproduce --experiment=profit/figure5 --workdir=runs/effects --seeds=5 --jobs=2
    python -m launch.reproduce --experiment=all --workdir=runs/effects --seeds=1 --jobs=2
    python -m launch.reproduce --experiment=perfit/table2 --scale=small --model=MODEL --data=dolly:FILE \
        --workdir=runs/table2 --set=rounds=20
    python -m launch.reproduce --experiment='profit/tuning_*_hhf' --workdir=runs/tuning

Without --data_dir, scale tiny prepares the embedded corpus in <workdir>/data; its model and its instructions need no
preparation.

configs/experiments says what the experiments are, configs/{profit,perfit}/<scale>.py what their names mean. Every run
goes to <workdir>/<launcher>/<names>/seed<k>; what has been done is not done again, also for another experiment.

Writes figures/<experiment>/ (PNG, PDF, tables as CSV), effects.jsonl (a line an effect: A - B, the mean over seeds and
its 95 % t interval, paired by seed; of a search a line a run that is chosen among) and tables of them in effects.md. A
run that fails leaves the others whole; it is named at the end, and the exit status is 2.
"""

import csv
import fnmatch
import io
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import flags

from configs.experiments import ALIASES, EXPERIMENTS, Experiment
from launch import _costs, _runs, _summary
from launch._done import Done
from launch._forks import Forks
from launch._main import arguments_of, command, define_log, define_mesh, run, shared_flags, watching, writers
from profit_jax.data.partition import PARTITIONS
from profit_jax.errors import InputError

CHUNK_SIZE = 400  # of the embedded corpus: a task's instances make one client

EXPERIMENT = flags.DEFINE_list("experiment", None, "Names or patterns, separated by commas; all: all but parts.")
LIST = flags.DEFINE_bool("list", False, "Print the experiments and their cost, and do nothing.")
SCALE = flags.DEFINE_string("scale", "tiny", "The file in configs/profit and configs/perfit.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where runs, tables and figures go.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs of each setting, with seeds 0, 1, ….", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 1, "Runs side by side; on a GPU each takes its memory.", lower_bound=1)
MODEL = flags.DEFINE_string("model", None, "A Hugging Face folder, where the config names none.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Profit's data, as prepare_sni.py has written them.")
DATA = flags.DEFINE_list("data", [], "PerFIT's data, if not on the hub: NAME:FILE.")
LOG = define_log()
define_mesh(None)
SET = flags.DEFINE_multi_string("set", [], "field=value of the config, for all runs whose config has that field.")


def main(argv: Sequence[str]) -> Done | None:
    """Runs, sums up and draws."""
    del argv
    if LIST.value:
        named = EXPERIMENT.value
        print(_costs.in_full(chosen_experiments(named), SCALE.value) if named else _costs.overview())
        return None
    if not WORKDIR.value:
        raise InputError("give --workdir=FOLDER")
    writers(LOG.value)  # one that is not installed is told here, not by each run
    named = chosen_experiments(EXPERIMENT.value or [])
    chosen = {name: _runs.at(experiment, SCALE.value) for name, experiment in named.items()}
    workdir = Path(WORKDIR.value)
    wanted = [
        (each, seed)
        for experiment in chosen.values()
        for seed in experiment.seeds(SEEDS.value)
        for each in experiment.runs
    ]
    jobs = _runs.plan(sorted(wanted, key=lambda run: run[1]), options(workdir))  # all of one seed before the next
    with Forks(workdir, JOBS.value) as forks:
        if embedded() and (any(experiment.of_data for experiment in chosen.values()) or any(map(reads_data, jobs))):
            prepare(workdir / "data", forks)
        new, failed = _runs.do(jobs, workdir, forks)
        done = {job.name for job in jobs} - failed.keys()
        with ThreadPoolExecutor(JOBS.value) as threads:
            drawn = threads.map(lambda name: draw(name, chosen[name], workdir, done, new, forks), chosen)
            failed |= {figure: reason for each in drawn for figure, reason in each.items()}
    rows = [
        row
        for name, experiment in chosen.items()
        for row in _summary.rows(name, experiment, workdir, experiment.seeds(SEEDS.value), done, repeated(name))
    ]
    print(f"\n{_summary.write(workdir, rows)}")
    if failed:
        raise InputError(f"{len(failed)} failed: {'; '.join(f'{name} ({why})' for name, why in failed.items())}")
    following = [command("report", workdir=workdir), *watching(LOG.value, WORKDIR.value)]
    return Done(f"{len(jobs)} runs of {len(chosen)} experiments done", workdir, following)


def chosen_experiments(patterns: Sequence[str]) -> dict[str, Experiment]:
    """The experiments that are named."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(EXPERIMENTS, pattern)
        found += [name for alias in fnmatch.filter(ALIASES, pattern) for name in ALIASES[alias]]
        if pattern == "all":
            found = [name for name, experiment in EXPERIMENTS.items() if experiment.in_all]
        if not found:
            raise InputError(f"no experiment {pattern!r}; --list names them")
        chosen |= {*found}
    if not chosen:
        raise InputError("give --experiment=NAME; --list names them")
    return {name: experiment for name, experiment in EXPERIMENTS.items() if name in chosen}


def reads_data(job: _runs.Job) -> bool:
    """Whether a run reads Profit's prepared data."""
    return "data_dir" in job.made_of["config"]


def options(workdir: Path) -> _runs.Options:
    """What the flags say of all runs."""
    shared = {name: flag.value for name, flag in (("model", MODEL), ("data_dir", DATA_DIR)) if flag.value}
    shared |= {"data_dir": str(workdir / "data")} if embedded() else {}
    for setting in SET.value:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set={setting}: give field=value")
        shared[name] = value
    return _runs.Options(SCALE.value, workdir, shared, DATA.value, shared_flags())


def embedded() -> bool:
    """Whether Profit's data are the embedded corpus."""
    return SCALE.value == "tiny" and not DATA_DIR.value


def prepare(data_dir: Path, forks: Forks) -> None:
    """Prepares the embedded corpus, if it is not there yet."""
    arguments = arguments_of("prepare_sni", source_dir="tiny", data_dir=data_dir, chunk_size=CHUNK_SIZE)
    if not all((data_dir / "federated_sni" / name).exists() for name in PARTITIONS):
        print(f"preparing the embedded corpus in {data_dir}", flush=True)
        if reason := forks("data", arguments):
            raise InputError(f"the embedded corpus could not be prepared: {reason}")


def repeated(name: str) -> str:
    """The command that makes an experiment's rows."""
    settings = {"experiment": name, "scale": SCALE.value, "workdir": WORKDIR.value, "seeds": SEEDS.value}
    settings |= {flag.name: flag.value for flag in (MODEL, DATA_DIR) if flag.value}
    settings |= {"data": ",".join(DATA.value)} if DATA.value else {}
    return shlex.join(["python", *arguments_of("reproduce", **settings), *(f"--set={each}" for each in SET.value)])


def draw(
    name: str, experiment: Experiment, workdir: Path, done: set[str], new: set[str], forks: Forks
) -> dict[str, str]:
    """Draws an experiment's figure unless it is there as it should be; returns it if that failed, with the reason."""
    figure = f"figures/{name}"
    if experiment.of_data and not (embedded() or DATA_DIR.value):
        return {figure: "no data: give --data_dir=FOLDER, as prepare_sni.py has written it"}
    if not (experiment.figure and (shown := sources(experiment, workdir, done))):
        return {}
    titles, legends, folders = map(one_flag, zip(*shown, strict=True))
    settings = {"workdir": folders, "labels": legends, "panels": titles, "kinds": ",".join(experiment.figure.kinds)}
    arguments = arguments_of("plot", **settings, out=workdir / figure)
    drawn, wanted = workdir / figure / "command.txt", f"{shlex.join(['python', *arguments])}\n"
    changed = experiment.of_data or any(workdir / folder in {place for *_, place in shown} for folder in new)
    if not changed and drawn.exists() and drawn.read_text(encoding="utf-8") == wanted:
        return {}
    drawn.unlink(missing_ok=True)
    if reason := forks(figure, arguments):
        return {figure: reason}
    drawn.write_text(wanted, encoding="utf-8")
    return {}


def sources(experiment: Experiment, workdir: Path, done: set[str]) -> list[tuple[str, str, Path]]:
    """What a figure is drawn from: title of the panel, legend, folder."""
    if experiment.of_data:
        return [("", "", Path(DATA_DIR.value or workdir / "data") / "federated_sni")]
    return [
        (experiment.titles or panel, legend, workdir / folder)
        for panel, labelled in experiment.panels.items()
        for legend, each in labelled.items()
        for seed in experiment.seeds(SEEDS.value)
        if (folder := _runs.folder(each, seed)) in done
    ]


def one_flag(values: Sequence[object]) -> str:
    """Values as a flag takes them, separated by commas; those that hold one in quotes."""
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue().strip()


if __name__ == "__main__":
    run(main)
