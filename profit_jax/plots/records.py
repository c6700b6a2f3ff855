"""Reads what a run has written: `config.json`, `metrics.jsonl`, `clients.jsonl`, `perplexity.jsonl`,
`similarity.npz`; and `statistics.json` of prepared data.

A run that was killed can leave its last line half written: that line is left out with a warning. Any other damage is
an `InputError` that names the file and the line. Where a resumed run wrote a record a second time, the later one
counts.
"""

import json
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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
PERPLEXITY_FIELDS = ("round", "client", "group", "nll", "tokens", "perplexity")
COUNTED = ("instances", "tasks", "task_types")  # of a client, in `statistics.json`
STATISTICS = ("clients", *(name for column in COUNTED for name in (column, f"{column}_std")))
POINTS = ("epoch", "average", "genie")
OPTIONAL_NUMBERS = ("train_loss",)


@dataclass(frozen=True)
class Run:
    """The records of one workdir."""

    label: str  # what legends call it
    config: Record
    rounds: tuple[Record, ...]  # stage 1, by round
    clients: tuple[Record, ...]  # stage 2, by client and evaluation point
    perplexities: tuple[Record, ...]  # PerFIT, by round and client; round 0 is before training
    seeds: tuple["Run", ...] = ()  # of a mean over seeds, the run of each

    @property
    def perfit(self) -> bool:
        """Whether this is a run of PerFIT or of one of its baselines, FIT and local training."""
        return self.config.get("stage") == "perfit"


Panels = Mapping[str, Sequence[Run]]  # what is drawn side by side: title -> runs


class Similarity(NamedTuple):
    """Pairwise Hamming distances between clients' masks, a fraction of the coordinates; arrays `[clients, clients]`."""

    first: np.ndarray  # over the first LoRA module
    all: np.ndarray  # over all coordinates


def open_run(workdir: str | Path, label: str = "") -> Run:
    """Reads a workdir.

    Args:
      workdir: a folder with `config.json` and, as far as the run got, `metrics.jsonl`, `clients.jsonl` and
        `perplexity.jsonl`.
      label: the run's name in legends; the folder's name by default.

    Raises:
      InputError: no `config.json`, or a damaged record.
    """
    folder = Path(workdir)
    config = read_json(folder / "config.json")
    path = folder / "clients.jsonl"
    clients = _read_if_there(path, CLIENT_FIELDS)
    for line in clients:
        if line["point"] not in POINTS:
            raise InputError(f"{path}: point is {line['point']!r}, not one of {', '.join(POINTS)}")
    return Run(
        label=label or folder.resolve().name,
        config=config,
        rounds=_latest(_read_if_there(folder / "metrics.jsonl", ROUND_FIELDS), "round"),
        clients=_latest(clients, "point", "epoch", "alpha", "client"),
        perplexities=_latest(_read_if_there(folder / "perplexity.jsonl", PERPLEXITY_FIELDS), "round", "client"),
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


def read_statistics(path: str | Path) -> dict[str, Record]:
    """Reads the numbers of Profit's Table 1 from `statistics.json`: partition -> column -> number.

    Raises:
      InputError: no such file, not JSON, or a partition without them.
    """
    table = {}
    for partition, statistics in read_json(path).items():
        where = f"{path}, {partition}"
        _check(statistics, ("clients",), where)
        table[partition] = {"clients": statistics["clients"]}
        for column in COUNTED:
            spread = statistics.get(column)
            _check(spread, ("mean", "std"), f"{where}, {column}")
            table[partition] |= {column: spread["mean"], f"{column}_std": spread["std"]}
    return table


def read_similarity(path: str | Path) -> Similarity:
    """Reads `similarity.npz`.

    Raises:
      InputError: no such file, no NumPy archive, an array that is missing, damaged or not square, or a distance that
        is not between 0 and 1.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file) as archive:  # NumPy leaves a damaged file open
            missing = set(Similarity._fields) - set(archive.files)
            arrays = {} if missing else {name: archive[name] for name in Similarity._fields}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    # What NumPy raises on a file that is empty, cut, changed, or something else than an archive.
    except (EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not an archive of NumPy arrays: {error}") from error
    if missing:
        raise InputError(f"{path}: no array {min(missing)!r}")
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape != arrays["first"].shape[:1] * 2:
            raise InputError(f"{path}: {name!r} has shape {list(array.shape)}, not [clients, clients]")
        if array.dtype.kind not in "fiu" or not np.all((array >= 0) & (array <= 1)):
            raise InputError(f"{path}: {name!r} holds something else than distances between 0 and 1")
    return Similarity(**arrays)


def _latest(lines: Iterable[Record], *key: str) -> tuple[Record, ...]:
    """The records in the order of `key`; of those with the same key the later."""
    records = {tuple(line[field] for field in key): line for line in lines}
    return tuple(records[place] for place in sorted(records))


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
