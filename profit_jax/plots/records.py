"""Reads what a run has written: `config.json`, `metrics.jsonl`, `clients.jsonl`, `statistics.json`.

A run that was killed can leave its last line half written: that line is left out with a warning. Any other damage is
an `InputError` that names the file and the line. Where a resumed run wrote a record a second time, the later one
counts.
"""

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profit_jax.errors import InputError

Record = Mapping[str, Any]

ROUND_FIELDS = (
    "round",
    "loss",
    "loss_weight",
    "adapter_norm",
    "client_gradient_norm",
    "adapter_change_norm",
    "seconds",
)
CLIENT_FIELDS = (
    "client",
    "point",
    "epoch",
    "alpha",
    "train_loss",
    "local",
    "local_weight",
    "global",
    "global_weight",
)
POINTS = ("epoch", "average", "genie")
OPTIONAL_NUMBERS = ("train_loss",)


@dataclass(frozen=True)
class Run:
    """The records of one workdir."""

    label: str  # what legends call it
    config: Record
    rounds: tuple[Record, ...]  # stage 1, by round
    clients: tuple[Record, ...]  # stage 2, by client and evaluation point


def open_run(workdir: str | Path, label: str = "") -> Run:
    """Reads a workdir.

    Args:
      workdir: a folder with `config.json` and, as far as the run got, `metrics.jsonl` and `clients.jsonl`.
      label: the run's name in legends; the folder's name by default.

    Raises:
      InputError: no `config.json`, or a damaged record.
    """
    folder = Path(workdir)
    config = read_json(folder / "config.json")
    rounds = {line["round"]: line for line in _read_if_there(folder / "metrics.jsonl", ROUND_FIELDS)}
    path = folder / "clients.jsonl"
    clients = {}
    for line in _read_if_there(path, CLIENT_FIELDS):
        if line["point"] not in POINTS:
            raise InputError(f"{path}: point is {line['point']!r}, not one of {', '.join(POINTS)}")
        clients[line["point"], line["epoch"], line["alpha"], line["client"]] = line
    return Run(
        label=label or folder.resolve().name,
        config=config,
        rounds=tuple(rounds[key] for key in sorted(rounds)),
        clients=tuple(clients[key] for key in sorted(clients)),
    )


def read_json(path: str | Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
      InputError: no such file, or not a JSON object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def read_lines(path: str | Path, fields: Iterable[str]) -> list[dict[str, Any]]:
    """Reads a file of JSON objects, one a line.

    Args:
      path: the file.
      fields: what each line must hold; all but `point` are numbers, and `train_loss` may be null.

    Raises:
      InputError: no such file; a line that is not a JSON object (the last one excepted, which is left out with a
        warning); a line that lacks a field or holds something else than a number there.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{path}, line {number}: not JSON: {error}") from error
            if line:
                warnings.warn(f"{path}, line {number}: the last line is damaged and left out", stacklevel=2)
            break
        _check(record, fields, f"{path}, line {number}")
        records.append(record)
    return records


def read_divergences(path: str | Path) -> dict[str, dict[str, float]]:
    """Reads the training clients' mean KL divergences from `statistics.json`: partition -> category -> nats.

    Raises:
      InputError: no such file, not JSON, or a partition without them.
    """
    divergences = {}
    for partition, statistics in read_json(path).items():
        _check(statistics, (), f"{path}, {partition}")
        divergences[partition] = statistics.get("kl_divergence")
        _check(divergences[partition], divergences[partition] or (), f"{path}, {partition}, kl_divergence")
    return divergences


def _read_if_there(path: Path, fields: Iterable[str]) -> list[dict[str, Any]]:
    return read_lines(path, fields) if path.exists() else []


def _check(record: Any, fields: Iterable[str], where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object")
    for field in fields:
        if field not in record:
            raise InputError(f"{where}: no field {field!r}")
        value = record[field]
        if field == "point" or (value is None and field in OPTIONAL_NUMBERS):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where}: {field!r} is {value!r}, not a number")
