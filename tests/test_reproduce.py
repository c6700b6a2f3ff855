"""The launcher of experiments: what is run once, what is known again, and what it comes to."""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from configs.experiments import EXPERIMENTS, Run
from configs.experiments.types import TUNING_SEED
from launch import _drawn, _runs, _summary
from profit_jax.errors import InputError
from profit_jax.plots import style
from tests.plots.fakes import round_line, write_done, write_run
from tests.worlds import prepared

ROOT = Path(__file__).parents[1]
SCALES = ("debug", "tiny", "small", "paper")
TABLES = ("profit/table2", "profit/table3")
TRAIN = Run("profit_train", "hhf,fed_sgd")
PERSONALIZE = Run("profit_personalize", "hhf,fed_sgd,low", start=TRAIN)
FIT = Run("perfit_train", "dolly,dirichlet,fit")


def options(folder: Path, **changes) -> _runs.Options:
    return _runs.Options(**({"scale": "tiny", "workdir": folder, "shared": {}} | changes))


def test_a_run_of_two_experiments_is_planned_once_after_what_it_starts_from(tmp_path):
    runs = [(run, seed) for seed in range(2) for run in (TRAIN, PERSONALIZE, TRAIN, FIT)]
    data = ("dolly:here.jsonl", "mathinstruct:there.jsonl")
    small = options(tmp_path, scale="small", data=data)
    assert "--config.data=dolly:here.jsonl" in _runs.plan([(FIT, 0)], small)[0].arguments
    jobs = _runs.plan(runs, options(tmp_path, shared={"rounds": "3", "personalize.epochs": "1"}, data=data))
    assert [job.name for job in jobs[:3]] == [
        "profit_train/hhf-fed_sgd/seed0",
        "profit_personalize/hhf-fed_sgd-low/seed0",
        "perfit_train/dolly-dirichlet-fit/seed0",
    ]
    assert len(jobs) == 6
    assert jobs[4].arguments == [
        "-m",
        "launch.profit_personalize",
        "--config=configs/profit/tiny.py:hhf,fed_sgd,low",
        "--config.rounds=3",
        "--config.personalize.epochs=1",
        "--config.seed=1",
        "--config.personalize.seed=1",
        f"--config.personalize.start={tmp_path}/profit_train/hhf-fed_sgd/seed1",
        f"--workdir={tmp_path}/profit_personalize/hhf-fed_sgd-low/seed1",
    ]
    assert "--config.rounds=3" in jobs[5].arguments
    assert not any("personalize" in argument or "there" in argument for argument in jobs[5].arguments)


def test_mesh_and_log_reach_every_run_and_make_none_another_one(tmp_path):
    runs = [(run, 0) for run in (TRAIN, PERSONALIZE, FIT)]
    given = {"mesh": "clients:2,model:2", "log": "tensorboard,wandb"}
    plain, on = (_runs.plan(runs, options(tmp_path, flags=flags)) for flags in ({}, given))
    assert [job.made_of for job in on] == [job.made_of for job in plain]
    for job, without in zip(on, plain, strict=True):
        assert {*job.arguments} - {*without.arguments} == {f"--{name}={value}" for name, value in given.items()}


def test_what_no_config_has_is_refused(tmp_path):
    with pytest.raises(InputError, match="no config has a field 'epochs'"):
        _runs.plan([(TRAIN, 0)], options(tmp_path, shared={"epochs": "1"}))
    with pytest.raises(InputError, match=r"no scale 'huge': no file configs/profit/huge\.py"):
        _runs.plan([(TRAIN, 0)], options(tmp_path, scale="huge"))


class Fake:
    """Launchers that do nothing but make their workdir; those whose name is here fail."""

    def __init__(self, workdir: Path, failing: Sequence[str] = ()):
        self.workdir, self.failing, self.called, self.count = workdir, failing, [], 2

    def __call__(self, name: str, arguments: Sequence[str]) -> str:
        self.called.append(name)
        (self.workdir / name).mkdir(parents=True, exist_ok=True)
        return "no luck" if name in self.failing else ""


def test_a_failed_run_leaves_the_others_whole_and_is_done_again(tmp_path):
    jobs = _runs.plan([(run, seed) for seed in range(2) for run in (TRAIN, PERSONALIZE, FIT)], options(tmp_path))
    first = Fake(tmp_path, failing=["profit_train/hhf-fed_sgd/seed0"])
    new, failed = _runs.do(jobs, tmp_path, first)
    assert new == {job.name for job in jobs}
    assert failed == {
        "profit_train/hhf-fed_sgd/seed0": "no luck",
        "profit_personalize/hhf-fed_sgd-low/seed0": "profit_train/hhf-fed_sgd/seed0 failed",
    }
    assert len(first.called) == 5, "what starts from a failed run is not started"
    second = Fake(tmp_path)
    assert _runs.do(jobs, tmp_path, second) == ({*failed}, {})
    assert {*second.called} == {*failed}
    assert _runs.do(jobs, tmp_path, Fake(tmp_path)) == (set(), {})


def test_another_run_in_a_folder_is_named_before_anything_is_started(tmp_path):
    _runs.do(_runs.plan([(TRAIN, 0), (PERSONALIZE, 0)], options(tmp_path)), tmp_path, Fake(tmp_path))
    forks = Fake(tmp_path)
    for changes, field in (({"shared": {"rounds": "3"}}, "fields.rounds"), ({"scale": "small"}, r"config\.batch_size")):
        jobs = _runs.plan([(TRAIN, 1), (TRAIN, 0)], options(tmp_path, **changes))
        with pytest.raises(InputError, match=f"hhf-fed_sgd/seed0 holds a run with another {field}"):
            _runs.do(jobs, tmp_path, forks)
    (tmp_path / PERSONALIZE.name / "seed0" / _runs.DONE).write_text("{")
    with pytest.raises(InputError, match=r"done\.json: not JSON"):
        _runs.do(_runs.plan([(TRAIN, 0), (PERSONALIZE, 0)], options(tmp_path)), tmp_path, forks)
    assert not forks.called


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A prepared corpus and a random model."""
    return prepared(tmp_path_factory.mktemp("world"))


SMALLEST = {
    "rounds": 1,
    "clients_per_round": 2,
    "max_query": 24,
    "max_target": 8,
    "local_steps": 1,
    "validate_every": 1,
    "validation_examples": 4,
    "personalize.clients": 2,
    "personalize.train_examples": 8,
    "personalize.test_examples": 4,
    "personalize.global_examples": 4,
    "personalize.epochs": 1,
    "pruning_epochs": 1,
}


def reproduce(
    world: Path, *arguments: str, workdir: str = "effects", timeout: int = 500
) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "launch.reproduce",
        f"--model={world / 'model'}",
        f"--data_dir={world / 'data'}",
        f"--workdir={world / workdir}",
        *arguments,
    ]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)


def rows(world: Path, workdir: str = "effects") -> list[dict]:
    return [json.loads(line) for line in (world / workdir / "effects.jsonl").read_text().splitlines()]


def test_experiments_of_both_papers_from_end_to_end(world):
    """Two experiments over two seeds, one run of which cannot be; then the one that is whole again."""
    spoilt = world / "effects" / "perfit_train/dolly-pathological-perfit-r16-mixed/seed1"
    spoilt.mkdir(parents=True)
    (spoilt / "something").touch()
    settings = [f"--set={name}={value}" for name, value in SMALLEST.items()]
    named = "--experiment=profit/observation1,perfit/metrics,profit/table1,profit/figure6"
    done = reproduce(world, named, "--seeds=2", *settings)
    name = "perfit_train/dolly-pathological-perfit-r16-mixed/seed1"
    assert done.returncode == 2 and f"error: 1 failed: {name} ({spoilt} is not empty and holds no run" in done.stderr
    assert "12 runs, 0 of them there already" in done.stdout

    found = rows(world)
    assert [row["seeds"] for row in found] == [[0, 1]] * 6 + [[0]]
    local = next(row for row in found if row["measure"] == "local")
    assert local["difference"]["mean"] == pytest.approx(local["a"]["mean"] - local["b"]["mean"])
    assert "--experiment=profit/observation1 --scale=tiny" in local["command"]
    second = next(row for row in found if row["experiment"] == "perfit/figure8")
    assert second["label"] == "tiny, pathological: second, first"
    recorded = (world / "effects" / second["a"]["run"] / "seed0" / "perplexity.jsonl").read_text().splitlines()
    last = [row["perplexity"] for row in map(json.loads, recorded) if row["round"] == 1]
    assert second["a"]["values"][0] == pytest.approx(sum(last) / len(last))
    assert (world / "effects/figures/profit/observation1/tradeoff.png").exists()
    assert (world / "effects/figures/perfit/figure8/perplexity.png").exists()
    assert (world / "effects/figures/perfit/figure8/perplexity.csv").read_text().count("tiny, pathological") == 3
    assert (world / "effects/figures/profit/table1/statistics.csv").read_text().startswith("partition,clients,")
    assert (world / "effects/figures/profit/figure6/heterogeneity.pdf").exists()

    again = reproduce(world, "--experiment=profit/observation1", "--seeds=2", *settings)
    assert again.returncode == 0, again.stderr
    assert "6 runs, 6 of them there already" in again.stdout
    assert {str(row) for row in rows(world)} == {str(row) for row in found}
    assert "## perfit/figure8: " in (world / "effects" / "effects.md").read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_drawn_and_summed_up(name, tmp_path):
    """From records as its runs would have written them, over two seeds."""
    experiment = _runs.at(EXPERIMENTS[name], "tiny")
    done = {_runs.folder(run, seed): (run, seed) for seed in experiment.seeds(2) for run in experiment.runs}
    for folder, (run, seed) in done.items():
        write_done(tmp_path / folder, run.launcher, seed, _runs.config_of(run, "tiny").to_dict())
    rows = _summary.rows(name, experiment, tmp_path, experiment.seeds(2), {*done}, "python …")
    assert len(rows) == len(experiment.effects) + sum(len(choice.runs) for choice in experiment.choices)
    for row in rows:
        assert row.get("seeds", [*experiment.seeds(2)]) == [*experiment.seeds(2)]
        assert "{" not in row.get("label", "")
    assert _summary.report(rows).startswith(f"## {name}: " if rows else "\n")
    if experiment.panels:
        sources = [
            (tmp_path / _runs.folder(run, seed), legend, experiment.figure.titles or panel)
            for panel, labelled in experiment.panels.items()
            for legend, run in labelled.items()
            for seed in experiment.seeds(2)
        ]
        drawn = _drawn.draw(*map(list, zip(*sources, strict=True)), experiment.figure.kinds)
        assert not drawn.lacking
        for kind, figure in drawn.figures.items():
            titled = [axes.get_title() for axes in figure.axes if axes.get_title()]
            if not kind.startswith(("training", "mask", "clients")):
                assert len({*titled}) == len(titled) == len(experiment.panels)
                labels = {text.get_text().partition(" (2 seeds)")[0] for text in figure.legends[0].get_texts()}
                legends = {legend for labelled in experiment.panels.values() for legend in labelled}
                assert len({*style.COLOURS}) >= len(legends), "a colour each"
                assert len(labels) >= len(legends) - (kind == "perplexity_clients")
            assert not any("{" in text.get_text() for legend in figure.legends for text in legend.get_texts())


@pytest.mark.slow
def test_all_experiments_from_end_to_end(world):
    """Every run of every launcher for real at the smallest size, and every figure and table."""
    settings = [f"--set={name}={value}" for name, value in SMALLEST.items()]
    done = reproduce(world, "--experiment=all", "--seeds=1", "--jobs=2", *settings, workdir="all", timeout=3600)
    assert done.returncode == 0, done.stderr
    for name, experiment in EXPERIMENTS.items():
        if experiment.in_all:
            assert any((world / "all" / "figures" / name).iterdir()), name
    counts = Counter(row["experiment"] for row in rows(world, "all"))
    assert counts == {
        name: len(experiment.effects) + sum(len(choice.runs) for choice in experiment.choices)
        for name, experiment in ((name, _runs.at(each, "tiny")) for name, each in EXPERIMENTS.items())
        if experiment.in_all and (experiment.effects or experiment.choices)
    }


def test_tuning_marks_the_run_with_the_highest_score_and_keeps_other_rows(tmp_path):
    """FedSGD's five rates with hand-written records: the first two score alike, and the second trains better."""
    name = "profit/tuning_fed_sgd_hhf"
    done = set()
    for run, score, loss in zip(
        EXPERIMENTS[name].choices[0].runs, (0.4, 0.39, 0.3, 0.3, 0.2), (2, 1, 0, 1, 1), strict=True
    ):
        done.add(_runs.folder(run, TUNING_SEED))
        write_run(tmp_path / _runs.folder(run, TUNING_SEED), rounds=[round_line(1, validation_score=score, loss=loss)])
    found = _summary.rows(name, EXPERIMENTS[name], tmp_path, [TUNING_SEED], done, "python …")
    assert [(*row["fields"].values(), row["best"]) for row in found] == [
        (0.01, False),
        (10**-1.5, True),
        (0.1, False),
        (1.0, False),
        (10.0, False),
    ]
    other = _summary.rows("perfit/figure8", EXPERIMENTS["perfit/figure8"], tmp_path, range(2), set(), "python …")
    _summary.write(tmp_path, [*other, *found[:1]])
    text = _summary.write(tmp_path, found)
    assert (
        "| 0.0316228                      | 0.39       | 0.3679             | best |" in text
        and "perfit/figure8" not in text
    )
    assert [row["experiment"] for row in rows(tmp_path, "")] == ["perfit/figure8"] * 2 + [name] * 5
    assert "| -   | -   | -            | 0     | alike" in (tmp_path / "effects.md").read_text()


def test_what_a_table_of_searches_chose_is_a_csv_as_in_the_paper_and_nothing_that_diverged(tmp_path):
    """Of three rates on MHF the largest has no finite loss; on HHF all have diverged; of the others nothing is done."""
    experiment, done = _runs.at(EXPERIMENTS["profit/table2"], "tiny"), set()
    searched = {choice.column: choice for choice in experiment.choices if choice.line.startswith("FedSGD - ")}
    for column, losses in (("MHF-SNI", (2.0, 1.0, math.nan)), ("HHF-SNI", (math.nan,) * 3)):
        for run, loss in zip(searched[column].runs, losses, strict=True):
            done.add(_runs.folder(run, TUNING_SEED))
            lines = [round_line(1, validation_score=0.4, loss=loss)]
            write_run(tmp_path / _runs.folder(run, TUNING_SEED), rounds=lines)
    found = _summary.rows("profit/table2", experiment, tmp_path, [TUNING_SEED], done, "python …")
    text = _summary.write(tmp_path, found)
    assert sum(row["best"] for row in found) == 1 and text.count("| diverged") == 8
    file = tmp_path / "figures" / "profit" / "table2" / "learning_rates.csv"
    assert file.read_text().splitlines() == [",HHF-SNI,MHF-SNI", "FedSGD - prompt length 10,,0.1"]
    assert "| FedSGD - prompt length 10 | -       | 0.1     |" in text


def test_bad_flags_are_one_line(tmp_path):
    cases = {
        "--experiment=nothing": "no experiment 'nothing'; --list names them",
        "--seeds=2": "give --experiment=NAME; --list names them",
        "--set=rounds": "give field=value",
    }
    for argument, said in cases.items():
        more = ["--experiment=perfit/table2_dirichlet"] if argument.startswith("--set") else []
        done = reproduce(tmp_path, argument, *more)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
