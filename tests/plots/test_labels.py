"""Runs are called as in the paper's figures; what differs is told, the seed apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from profit_jax.errors import InputError
from profit_jax.plots import labels
from tests.plots.fakes import write_perfit, write_run


def named(folder: Path, *configs: dict[str, Any]) -> list[str]:
    return labels.of([write_perfit(folder / str(index), **config) for index, config in enumerate(configs)])


def test_methods_are_called_as_in_the_paper(tmp_path: Path) -> None:
    configs = (
        {"method": "fit", "sparsity": 0.0},
        {"method": "local"},
        {"method": "local", "start": "runs/fit"},
        {"sparsity": [0.5]},
        {"sparsity": 0.33},  # the paper's rounding of a third
        {"sparsity": 0.33, "rank_before": 24},
        {"sparsity": [0.0, 0.25, 0.5]},
    )
    assert named(tmp_path, *configs) == [
        "FIT",
        "local",
        "FIT, then local",
        "PerFIT R = 16",
        "PerFIT R = 12",
        "PerFIT R = 24",
        "PerFIT 1 - 0.75 - 0.5",
    ]


def test_seeds_of_one_setting_share_a_name(tmp_path: Path) -> None:
    assert named(tmp_path / "perfit", {"seed": 0}, {"seed": 1}) == ["PerFIT R = 16"] * 2
    local = [{"method": "local", "seed": seed, "start": f"runs/fit{seed}"} for seed in (0, 1)]
    assert named(tmp_path / "local", *local) == ["FIT, then local"] * 2


def test_what_sets_settings_apart_follows(tmp_path: Path) -> None:
    configs = (
        {"metric": "first"},
        {"metric": "mix", "seed": 1},
        {"metric": "mix", "optimizer": {"learning_rate": 0.1}},
        {"method": "fit", "metric": "second"},
    )
    assert named(tmp_path, *configs) == [
        "PerFIT R = 16, metric first",
        "PerFIT R = 16, metric mix",
        "PerFIT R = 16, metric mix, optimizer.learning rate 0.1",
        "FIT",
    ]


def test_other_workdirs_are_called_by_their_folder(tmp_path: Path) -> None:
    assert labels.of([write_run(tmp_path / "adam"), tmp_path / "data"]) == ["adam", "data"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", {"stage": "perfit"}, r"config\.json: no field 'method'"),
        ("config.json", {"stage": "perfit", "method": "perfit"}, r"config\.json: no field 'sparsity'"),
        ("config.json", {"stage": "perfit", "method": "perfit", "sparsity": 0.5}, r"config\.json: no field 'rank'"),
        ("parameters.json", {"grid": 3}, r"parameters\.json: no field 'rank'"),
    ],
)
def test_a_config_without_what_the_name_is_made_of_is_named(tmp_path: Path, file, content, message) -> None:
    folder = write_perfit(tmp_path / "run")
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        labels.of([folder])
