"""Experiments as data: each run of each scale has a name, a folder and a cost; effects compare the right ones."""

from pathlib import Path

import pytest

from configs.experiments import ALIASES, EXPERIMENTS, Choice, Experiment, Run
from launch import _costs, _fields, _runs
from profit_jax.plots import measures

ROOT = Path(__file__).parents[1]
SCALES = ("debug", "tiny", "small", "paper")
TABLES = ("profit/table2", "profit/table3")
TRAIN = Run("profit_train", "hhf,fed_sgd")
PERSONALIZE = Run("profit_personalize", "hhf,fed_sgd,low", start=TRAIN)
FIT = Run("perfit_train", "dolly,dirichlet,fit")


def at(scale: str) -> dict[str, Experiment]:
    """All experiments at a scale."""
    return {name: _runs.at(experiment, scale) for name, experiment in EXPERIMENTS.items()}


def runs_at(scale: str) -> list[Run]:
    """Every run of every experiment at a scale, once."""
    return [*dict.fromkeys(run for experiment in at(scale).values() for run in experiment.runs)]


@pytest.mark.parametrize("scale", SCALES)
def test_the_names_of_every_run_of_every_experiment_are_known_at_every_scale(scale):
    for run in runs_at(scale):
        config, names = _runs.config_of(run, scale), run.names.split(",")
        assert all(_fields.has(config, field) for field, _ in run.fields)
        if run.launcher == "perfit_train":
            assert config.split == names[1]
            assert config.data.split(":")[0] == ("tiny" if scale == "tiny" else names[0]), "scale tiny has no download"
        elif run.start:
            assert config.partition == names[0] and not config.personalize.start


@pytest.mark.parametrize("scale", SCALES)
def test_a_run_is_told_by_its_folder(scale):
    runs = runs_at(scale)
    assert len({run.name for run in runs}) == len(runs)
    assert Run("profit_train", "hhf,x", fields=(("a.b", 0.1),)).name == "profit_train/hhf-x-a.b=0.1"


@pytest.mark.parametrize("scale", ("tiny", "small", "paper"))
def test_no_two_runs_are_one_run_under_two_names(scale):
    made = {}
    for run in runs_at(scale):
        key = (repr(_runs.config_of(run, scale).to_dict()), run.fields, run.start, run.launcher)
        assert made.setdefault(key, run.name) == run.name


@pytest.mark.parametrize("scale", ("tiny", "paper"))
def test_a_part_needs_no_run_that_its_whole_does_not(scale):
    experiments = at(scale)
    for name, experiment in experiments.items():
        if experiment.within:
            assert {*experiment.runs} <= {*experiments[experiment.within].runs}, name
            assert not experiments[experiment.within].within


def test_a_search_tries_each_rate_with_each_and_those_that_its_scale_names():
    choice = Choice("", "", TRAIN, {"x": (1, 2), "y": (3, 4)}, ())
    assert [run.fields for run in choice.runs] == [(("x", x), ("y", y)) for x in (1, 2) for y in (3, 4)]
    searched = {"fed_sgd": {"y": (5,), "z": (7,)}, "lhf,fed_sgd": {"x": (0,)}, "hhf,fed_sgd": {"x": (9,)}}
    assert [run.fields for run in choice.at(searched).runs] == [(("x", 9), ("y", 5))]


@pytest.mark.parametrize("scale", ("small", "paper"))
def test_larger_scales_search_all_rates(scale):
    assert {name: each.runs for name, each in at(scale).items()} == {n: each.runs for n, each in EXPERIMENTS.items()}


@pytest.mark.parametrize("name", TABLES)
def test_scale_tiny_searches_few_rates_and_among_them_its_own(name):
    for choice in at("tiny")[name].choices:
        own = dict(_fields.leaves(_runs.config_of(choice.run, "tiny").to_dict()))
        assert all(own[field] in rates for field, rates in choice.rates.items()), choice.line
        assert [*map(len, choice.rates.values())] in ([3], [2, 2])


def test_searches_are_the_lines_and_columns_of_the_papers_tables_2_and_3():
    """But for centralized training and the random starts, which see no partition, a cell each."""
    columns = ("HHF-SNI", "MHF-SNI", "LHF-SNI")
    trained = [f"{name} - prompt length 10" for name in ("FedAvg(Adam)", "FedAvg(SGD)", "FedSGD", "FedSGD-LB")]
    twice = [
        f"{name} - {how} Computation" for name in ("FedAvg(Adam)", "FedAvg(SGD)", "FedSGD") for how in ("High", "Low")
    ]
    once = [f"{name} - High Computation" for name in ("Centralized", "Random-Gaussian", "Random-Word")]
    wanted = {
        "profit/table2": {(line, column) for line in trained for column in columns} | {("Centralized", "HHF-SNI")},
        "profit/table3": {(line, column) for line in (*twice, "FedSGD-LB - High Computation") for column in columns}
        | {(line, "HHF-SNI") for line in once},
    }
    for name in TABLES:
        assert {(choice.line, choice.column) for choice in EXPERIMENTS[name].choices} == wanted[name]


def test_every_figure_and_table_of_both_papers_has_a_name():
    named = EXPERIMENTS.keys() | ALIASES.keys()
    numbers = {"profit": (range(3, 20), range(1, 4)), "perfit": (range(2, 9), range(1, 4))}
    wanted = {
        f"{paper}/{kind}{number}"
        for paper, kinds in numbers.items()
        for kind, each in zip(("figure", "table"), kinds, strict=True)
        for number in each
    }
    assert wanted <= named
    assert not ALIASES.keys() & EXPERIMENTS.keys()
    assert {meant for each in ALIASES.values() for meant in each} <= EXPERIMENTS.keys()


def test_all_at_scale_tiny_is_within_its_time():
    """90 minutes on two cores, and a quarter of an hour for each experiment."""
    whole = [each for each in EXPERIMENTS.values() if each.in_all]
    assert {*TABLES} <= {name for name, each in EXPERIMENTS.items() if each.in_all}
    assert max(_costs.seconds(_costs.runs_of([each], "tiny")) for each in whole) <= 15 * 60
    assert _costs.seconds(_costs.runs_of(whole, "tiny")) <= 90 * 60


def test_costs_are_worked_out_by_hand():
    assert _costs.of_training(_runs.config_of(TRAIN, "paper")) == (4800 * 32 * 32, 30 * 2048)
    # 10 epochs of 256 examples on 32 clients; before the first epoch and after each 128 + 2,048 answers of each.
    assert _costs.of_personalization(_runs.config_of(PERSONALIZE, "paper")) == (10 * 256 * 32, 11 * 2176 * 32)
    without = Run("profit_personalize", "hhf,no_prompt,high")
    assert _costs.of_personalization(_runs.config_of(without, "paper")) == (0, 2176 * 32)
    # 100 clients of 200 rows, 40 of them to test: 5 epochs of all to search, then 30 rounds of 10.
    perfit = Run("perfit_train", "codealpaca,equal,perfit,r16")
    assert _costs.of_perfit(_runs.config_of(perfit, "paper")) == (160 * (500 + 300), 31 * 100 * 40)


def test_the_list_has_a_line_for_each_experiment_and_name():
    lines = {line.split()[0].rstrip(":") for line in _costs.overview().splitlines() if line}
    searches = {name for name, each in EXPERIMENTS.items() if each.within and each.choices}
    assert EXPERIMENTS.keys() - searches | ALIASES.keys() | {"all"} <= lines
    center = {"x": EXPERIMENTS["profit/figure3_center"]}
    assert "profit_personalize/hhf-random_word-high" in _costs.in_full(center, "tiny")
    search = {"x": EXPERIMENTS["profit/tuning_fed_sgd_hhf"]}
    listed = [_costs.in_full(search, scale).count("profit_train/hhf-fed_sgd-server") for scale in ("tiny", "paper")]
    assert listed == [3, 5]


def test_experiments_compare_known_measures_of_the_right_runs():
    training = {*measures.TRAINING}
    for experiment in EXPERIMENTS.values():
        for effect in experiment.effects:
            wanted = "perfit_train" if effect.measure == "perplexity" else "profit_personalize"
            wanted = "profit_train" if effect.measure in training else wanted
            assert effect.measure in measures.KNOWN
            assert effect.a.launcher == effect.b.launcher == wanted
            assert "average" not in effect.points or "average" in effect.a.names
