"""The shipped configs: the paper's numbers, and no field that never reaches the code."""

import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import bench
from configs.profit import demo, paper, small

ROOT = Path(__file__).parents[1]
LAUNCHERS = {
    "small": ("profit_train.py", "profit_personalize.py", "_parts.py"),
    "bench": ("bench.py", "_parts.py"),
}


def fields(config: ConfigDict) -> set[str]:
    """Names of all fields, nested ones too, but for an optimizer's settings, which go to optax as they are."""
    names = set()
    for name, value in config.items():
        names.add(name)
        if isinstance(value, ConfigDict) and name not in ("adam", "shape"):
            names |= fields(value)
    return names


@pytest.mark.parametrize(("name", "config"), [("small", small.get_config()), ("bench", bench.get_config())])
def test_every_field_is_read_by_a_launcher(name, config):
    text = "".join((ROOT / "launch" / file).read_text() for file in LAUNCHERS[name])
    unread = {field for field in fields(config) if field != "adam" and not re.search(rf"\.{field}\b", text)}
    assert not unread


@pytest.mark.parametrize("config", [demo.get_config(), paper.get_config(), paper.get_config("lhf,fed_sgd_lb,low")])
def test_all_profit_configs_have_the_same_fields(config):
    assert fields(config) == fields(small.get_config())


@pytest.mark.parametrize("algorithm", paper.SCHEDULE)
def test_all_algorithms_of_the_paper_see_as_many_examples(algorithm):
    rounds, steps, batch = paper.SCHEDULE[algorithm]
    assert rounds * steps * batch * 32 == 300 * 16 * 32 * 32


def test_the_paper_config_holds_tables_2_and_3():
    config = paper.get_config("mhf,fed_avg_sgd,low")
    assert config.algorithm == "fed_avg" and config.client_optimizer.name == "sgd"
    assert (config.server_optimizer.learning_rate, config.client_optimizer.learning_rate) == (0.1, 10)
    assert config.personalize.optimizer.learning_rate == 1e-2 and config.personalize.epochs == 10
    assert config.server_optimizer.adam.to_dict() == {"b1": 0.99, "b2": 0.999, "eps": 1e-8}


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="partition,algorithm"):
        paper.get_config("hhf,adam")
