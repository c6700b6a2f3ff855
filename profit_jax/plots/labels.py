"""Names for legends, worked out from what the runs have recorded."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from profit_jax.checks import is_count
from profit_jax.errors import InputError
from profit_jax.files import read_object
from profit_jax.plots.records import Record, read_config

OF_A_SEED = ("seed", "start")  # a local run starts from the FIT run with its seed


def of(workdirs: Sequence[Path]) -> list[str]:
    """A name for each workdir.

    A run of PerFIT or its baselines is called as in PerFIT's figures: "FIT", "local", "FIT, then local" where that
    starts from a FIT run, "PerFIT R = 16" by the rank before pruning, "PerFIT 1 - 0.75 - 0.5" by the densities of
    unequal resources. Where different configs would be called the same, what sets them apart follows: "PerFIT R = 16,
    metric first". Runs that differ in their seed alone share a name. Any other workdir is called by its folder's name.

    Raises:
      InputError: a damaged `config.json` or `parameters.json`, or one that lacks what the name is made of.
    """
    names = [folder.resolve().name for folder in workdirs]
    alike: dict[str, list[int]] = defaultdict(list)
    configs: dict[int, dict[str, Any]] = {}
    for index, folder in enumerate(workdirs):
        if not (folder / "config.json").exists():
            continue
        config = read_config(folder / "config.json")
        if config.get("stage") == "perfit":
            names[index] = _setting(folder, config)
            alike[names[index]].append(index)
            configs[index] = dict(_fields(config))
    for indices in alike.values():
        varied = _varied([configs[index] for index in indices])
        for index in indices:
            apart = [f"{name.replace('_', ' ')} {configs[index][name]}" for name in varied if name in configs[index]]
            names[index] = ", ".join([names[index], *apart])
    return names


def filled(label: str, config: Record) -> str:
    """A label with the values of the fields that it names in braces; of data that are a file, the file's name.

    >>> filled("rate {optimizer.learning_rate:.2g}", {"optimizer": {"learning_rate": 10**-1.5}})
    'rate 0.032'

    Raises:
      InputError: the config has no such field.
    """
    try:
        fields = ConfigDict(config)
        if "data" in fields:
            fields.data = Path(fields.data).name
        return label.format(**dict(fields))
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise InputError(f"{label!r} names in braces what is no field of the run's config.json") from None


def _setting(folder: Path, config: Record) -> str:
    """The method's name, with the rank or the densities of PerFIT."""
    file = folder / "config.json"
    method = _need(config, "method", file)
    if method == "local" and config.get("start"):
        return "FIT, then local"
    if method != "perfit":
        return "FIT" if method == "fit" else method
    sparsity = _need(config, "sparsity", file)
    sparsity = sparsity if isinstance(sparsity, list) else [sparsity]
    if len(sparsity) > 1:
        return "PerFIT " + " - ".join(f"{1 - value:g}" for value in sparsity)
    parameters = folder / "parameters.json"
    if parameters.exists():
        rank = _need(read_object(parameters), "rank", parameters)
        if not is_count(rank):
            raise InputError(f"{parameters}: 'rank' is {rank!r}, not a whole number")
        return f"PerFIT R = {rank}"
    return f"PerFIT R = {round(_need(config, 'rank', file) / (1 - sparsity[0]))}"


def _need(record: Record, name: str, path: Path) -> Any:
    if name not in record:
        raise InputError(f"{path}: no field {name!r}")
    return record[name]


def _fields(config: Record, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all fields but those that differ between the seeds of a setting."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{path}{name}.")
        elif path + name not in OF_A_SEED:
            yield path + name, value


def _varied(configs: Sequence[Record]) -> list[str]:
    """The fields in which some of the configs differ."""
    names = dict.fromkeys(name for config in configs for name in config)
    return [name for name in names if len({json.dumps(config.get(name)) for config in configs}) > 1]
