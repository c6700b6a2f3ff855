"""Reads what a run has written: `config.json`, `metrics.jsonl`, `clients.jsonl`, `perplexity.jsonl`,
`similarity.npz`; and `statistics.json` of prepared data.

A run that was killed can leave its last line half written: that line is left out with a warning. Any other damage is
an `InputError` that names the file and the line. Where a resumed run wrote a record a second time, the later one
counts.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from profit_jax.checks import Check, is_count, is_number, is_text
from profit_jax.errors import InputError
from profit_jax.files import read_arrays, read_lines, read_object

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
OPTIONAL_NUMBERS = ("train_loss", "validation_score")  # absent, or null
COUNTS = ("round", "client", "epoch", "group", "clients")


@dataclasses.dataclass(frozen=True)
class Run:
    """The records of one workdir; or those that a run without one has returned.

    `Run("FedAvg", rounds=result.history)`, `Run("rate 0.1", clients=curve.rows)`.
    """

    label: str  # what legends call it
    config: Record = dataclasses.field(default_factory=dict)
    rounds: Sequence[Record] = ()  # stage 1, by round
    clients: Sequence[Record] = ()  # stage 2, by client and evaluation point
    perplexities: Sequence[Record] = ()  # PerFIT, by round and client; round 0 is before training
    seeds: Sequence["Run"] = ()  # of a mean over seeds, the run of each

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
    config = read_config(folder / "config.json")
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


def read_config(path: str | Path) -> Record:
    """Reads a run's `config.json`, of which figures ask only what is checked here; absent fields stay absent.

    Raises:
      InputError: as `read_object`, or a field that says what no run's config does.
    """
    config = read_object(path)
    for field, (right, what) in CONFIG.items():
        if field in config and not right(config[field]):
            raise InputError(f"{path}: {field!r} is {config[field]!r}, not {what}")
    return config


def read_environment(path: str | Path) -> Record:
    """Reads `environment.json`: names and their texts or numbers.

    Raises:
      InputError: as `read_object`, or a value of another kind.
    """
    environment = read_object(path)
    for name, value in environment.items():
        if not is_text(value) and not is_number(value):
            raise InputError(f"{path}: {name!r} is {value!r}, neither text nor a number")
    return environment


def _is_sparsity(value: Any) -> bool:
    each = value if isinstance(value, list) else [value]
    return bool(each) and all(is_number(one) and 0 <= one < 1 for one in each)


CONFIG: Mapping[str, tuple[Check, str]] = {
    "seed": (is_count, "a whole number"),
    "rank": (lambda value: is_count(value) and value > 0, "a positive whole number"),
    "sparsity": (_is_sparsity, "a share from 0 to below 1, or a list of them"),
    "personalize": (lambda value: isinstance(value, dict), "an object"),
    **dict.fromkeys(("stage", "method", "split", "data"), (is_text, "text")),
}
"""What a config's field must be: a check, and its words."""


def read_records(path: str | Path, fields: Iterable[str]) -> list[dict[str, Any]]:
    """Reads a file of records, a JSON object a line.

    Args:
      path: the file.
      fields: what each line must hold; all but `point` are numbers, those of `COUNTS` whole ones from 0 on, and
        `OPTIONAL_NUMBERS` may be null.

    Raises:
      InputError: no such file; a line that is not a JSON object (the last one excepted, which is left out with a
        warning); a line that lacks a field or holds something else than a number there.
    """
    lines = read_lines(path, appended=True)
    if lines.torn:
        warnings.warn(f"{path}, line {lines.torn}: the last line is damaged and left out", stacklevel=2)
    for number, record in lines.objects.items():
        _check(record, fields, f"{path}, line {number}")
    return [*lines.objects.values()]


def read_divergences(path: str | Path) -> dict[str, dict[str, float]]:
    """Reads the training clients' mean KL divergences from `statistics.json`: partition -> category -> nats.

    Raises:
      InputError: no such file, not JSON, or a partition without them.
    """
    divergences = {}
    for partition, statistics in read_object(path).items():
        _check(statistics, (), f"{path}, {partition}")
        divergences[partition] = statistics.get("kl_divergence")
        where = f"{path}, {partition}, kl_divergence"
        _check(divergences[partition], (), where)
        _check(divergences[partition], divergences[partition], where)
    return divergences


def read_statistics(path: str | Path) -> Mapping[str, Record]:
    """Reads the numbers of Profit's Table 1 from `statistics.json`: partition -> column -> number.

    Raises:
      InputError: no such file, not JSON, or a partition without them.
    """
    table = {}
    for partition, statistics in read_object(path).items():
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
    arrays = read_arrays(path, Similarity._fields)
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
    return read_records(path, fields) if path.exists() else []


def _check(record: Any, fields: Iterable[str], where: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object")
    for field in (*fields, *OPTIONAL_NUMBERS):
        if field not in record and field in fields:
            raise InputError(f"{where}: no field {field!r}")
        value = record.get(field)
        if field == "point" or (value is None and field in OPTIONAL_NUMBERS):
            continue
        if field in COUNTS and not is_count(value):
            raise InputError(f"{where}: {field!r} is {value!r}, not a whole number from 0 on")
        if not is_number(value):
            raise InputError(f"{where}: {field!r} is {value!r}, not a number")
