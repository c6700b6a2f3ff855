"""What a prepared partition's `metadata.json` says, read and checked.

It has four parts: `settings` and `report` (`prepare.Settings`, `store.Report`), `clients`, the borders of each split's
clients among its records, and `tasks`, the tasks' descriptions (`tasks.parse_task` checks them).
"""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profit_jax.checks import Check, all_are, has, is_count, is_number, is_text
from profit_jax.data.partition import PARTITIONS
from profit_jax.data.splits import TypeSplit
from profit_jax.errors import InputError
from profit_jax.files import read_object


def read(folder: Path) -> dict[str, Any] | None:
    """The metadata of a partition's version folder; None if there is no such folder.

    Raises:
      InputError: the folder is there, its metadata is not whole.
    """
    if not os.path.isdir(folder):  # which a name that is too long is not
        return None
    path, again = folder / "metadata.json", f"delete {folder} and prepare it again"
    metadata = read_object(path, again)
    for part in (*_PARTS, "tasks"):
        if not isinstance(metadata.get(part), dict):
            raise InputError(f"{path}: lacks {part}; {again}")
    for part, fields in _PARTS.items():
        found = metadata[part]
        wrong = [field for field, right in fields.items() if field not in found or not right(found[field])]
        if wrong := wrong or sorted(found.keys() - fields):
            raise InputError(f"{path}: {part}.{wrong[0]} is missing, damaged or unknown; {again}")
    return metadata


def _is_borders(value: Any) -> bool:
    """Whether these are borders of clients, of which none is empty."""
    counts = isinstance(value, list) and len(value) > 1 and all(map(is_count, value))
    return counts and value[0] == 0 and all(before < after for before, after in itertools.pairwise(value))


_SPREAD = has(mean=is_number, std=is_number)
_SUMMARY = {
    "clients": is_count,
    "total_instances": is_count,
    "instances": _SPREAD,
    "tasks": _SPREAD,
    "task_types": _SPREAD,
    "kl_divergence": all_are(is_number),
}
_PARTS: Mapping[str, Mapping[str, Check]] = {
    "settings": {
        "partition": PARTITIONS.__contains__,
        "chunk_size": is_count,
        "split": is_text,
        "seed": lambda value: isinstance(value, int),
        "source": is_text,
    },
    "report": {
        "tasks": is_count,
        "instances": is_count,
        "dropped": is_count,
        "first_dropped": lambda value: value is None or is_text(value),
        "task_types": has(**dict.fromkeys(TypeSplit._fields, all_are(is_text, list))),
        "too_small": all_are(is_count),
        "statistics": has(**_SUMMARY, validation=has(**_SUMMARY), test=has(**_SUMMARY)),
    },
    "clients": dict.fromkeys(("train", "validation", "test"), _is_borders),
}
"""The fields of each part but `tasks`, and the check of each."""
