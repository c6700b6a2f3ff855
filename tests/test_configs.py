"""The shipped configs: the paper's numbers, and no field that never reaches the code."""

import re
from collections import Counter
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import bench, names
from configs.perfit import debug as perfit_debug
from configs.perfit import paper as perfit_paper
from configs.perfit import small as perfit_small
from configs.perfit import tiny as perfit_tiny
from configs.profit import debug, paper, small, tiny

ROOT = Path(__file__).parents[1]
LAUNCHERS = {
    "small": ("profit_train.py", "profit_personalize.py", "_parts.py"),
    "bench": (*(file.name for file in (ROOT / "launch").glob("_bench_*.py")), "bench.py", "_parts.py"),
    "perfit": ("perfit_train.py", "_perfit.py", "_parts.py"),
}


def fields(config: ConfigDict) -> set[str]:
    """Names of all fields, nested ones too, but for an optimizer's settings, which go to optax as they are."""
    names = set()
    for name, value in config.items():
        names.add(name)
        if isinstance(value, ConfigDict) and name not in ("adam", "shape"):
            names |= fields(value)
    return names


@pytest.mark.parametrize(
    ("name", "config"),
    [("small", small.get_config()), ("bench", bench.get_config()), ("perfit", perfit_small.get_config())],
)
def test_every_field_is_read_by_a_launcher(name, config):
    text = "".join((ROOT / "launch" / file).read_text() for file in LAUNCHERS[name])
    unread = {field for field in fields(config) if field != "adam" and not re.search(rf"\.{field}\b", text)}
    assert not unread


@pytest.mark.parametrize(("platform", "beside_torch", "alone"), [("cpu", 3 * 2 * 2 * 3, 3), ("gpu", 2 * 2, 2 * 2)])
def test_rows_of_the_suite_set_fields_that_there_are(platform, beside_torch, alone):
    rows = bench.suite("a folder", platform)
    assert Counter(against for against, _ in rows.values()) == {"torch": beside_torch, "": alone}
    for _, own in rows.values():
        bench.get_config().lock().update(own)


@pytest.mark.parametrize(
    "config", [debug.get_config(), tiny.get_config(), paper.get_config(), paper.get_config("lhf,fed_sgd_lb,low")]
)
def test_all_profit_configs_have_the_same_fields(config):
    assert fields(config) == fields(small.get_config())


@pytest.mark.parametrize("algorithm", small.ALGORITHMS)
@pytest.mark.parametrize("scale", [debug, tiny, small, paper])
def test_all_algorithms_see_as_many_examples_and_are_validated_as_often(algorithm, scale):
    config, fed_avg = scale.get_config(algorithm), scale.get_config("fed_avg_adam")

    def schedule(config: ConfigDict) -> tuple[int, ...]:
        examples = config.rounds * config.local_steps * config.batch_size * config.clients_per_round
        return examples, config.rounds // config.validate_every, config.rounds // config.checkpoint_every

    assert schedule(config) == schedule(fed_avg)
    assert (config.local_steps == 1) == (algorithm in ("fed_sgd", "centralized"))


def test_the_paper_config_holds_tables_2_and_3():
    config = paper.get_config("mhf,fed_avg_sgd,low")
    assert config.algorithm == "fed_avg" and config.client_optimizer.name == "sgd"
    assert (config.server_optimizer.learning_rate, config.client_optimizer.learning_rate) == (0.1, 10)
    assert config.personalize.optimizer.learning_rate == 1e-2 and config.personalize.epochs == 10
    assert config.server_optimizer.adam.to_dict() == {"b1": 0.99, "b2": 0.999, "eps": 1e-8}
    default = paper.get_config()
    assert (default.rounds, default.local_steps, default.batch_size, default.clients_per_round) == (300, 16, 32, 32)
    rates = [paper.get_config(f"{part},fed_sgd").personalize.optimizer.learning_rate for part in ("hhf", "mhf", "lhf")]
    assert rates == [10**-1.5, 1e-2, 1e-2]


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="unknown setting 'adam'; known: hhf, "):
        paper.get_config("hhf,adam")


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="'hhf' and 'lhf' exclude each other"):
        small.get_config("lhf,hhf")


def test_what_stands_at_several_names_holds_where_all_of_them_are_given():
    def apply(given: str) -> dict:
        settings = {"a": {"x": 1}, "b": {"y.z": 2.0}, "a,b": {"x": 3}, "c": {}}
        return names.apply(ConfigDict({"x": 0, "y": {"z": 0.0}}), given, settings, one_of=[("c", "a")]).to_dict()

    assert apply("b") == {"x": 0, "y": {"z": 2.0}}
    assert apply("a") == {"x": 1, "y": {"z": 0.0}}
    assert apply("b,a") == apply("a,b") == {"x": 3, "y": {"z": 2.0}}


@pytest.mark.parametrize(
    "config",
    [perfit_debug.get_config(), perfit_tiny.get_config(), perfit_paper.get_config("dolly,dirichlet,fit,unequal")],
)
def test_all_perfit_configs_have_the_same_fields(config):
    assert fields(config) == fields(perfit_small.get_config())


def test_the_perfit_paper_config_holds_section_5_and_appendix_c():
    config = perfit_paper.get_config("mathinstruct,equal,perfit,r12")
    assert (config.clients, config.clients_per_round, config.rounds, config.size) == (100, 10, 30, 200)
    assert (config.batch_size, config.mini_batch, config.local_epochs, config.pruning_epochs) == (64, 8, 1, 5)
    assert (config.client_optimizer.learning_rate, config.last_learning_rate) == (5e-5, 1e-6)
    assert config.client_optimizer.adam.to_dict() == {"b1": 0.9, "b2": 0.99, "eps": 1e-8}
    assert (config.rank, config.sparsity, config.rows, config.test_fraction) == (8, (1 / 3,), 20_000, 0.2)
    assert perfit_paper.get_config("unequal").rounds == 50
