"""Settings that were trained side by side, told apart: each becomes the run that it would have been by itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profit_jax import hosts
from profit_jax.experiment.checkpoint import Checkpoints
from profit_jax.experiment.loop import Result
from profit_jax.experiment.record import Workdir
from profit_jax.federated.side_by_side import setting


def tell_apart(
    together: Workdir, result: Result, runs: Sequence[tuple[Path, Mapping[str, Any]]], *, score: str
) -> list[Workdir]:
    """Writes a workdir for each setting, with its records and its last checkpoint.

    Args:
      together: the workdir of all, whose rows have a list where settings differ.
      result: what their training has left.
      runs: the folder and the config of each setting, in the order of their axis.
      score: the field of metrics.jsonl by which the best adapter was kept.
    """
    return [_one(together, result, number, Workdir(*run), score) for number, run in enumerate(runs)]


def _one(together: Workdir, result: Result, number: int, own: Workdir, score: str) -> Workdir:
    metrics, cohorts = together.rows("metrics"), together.rows("cohorts")
    rows = {
        "metrics": [{name: _of(value, number) for name, value in row.items()} for row in metrics],
        "cohorts": [row | {name: row[name][number] for name in ("losses", "left_out")} for row in cohorts],
        "shapes": together.rows("shapes"),
    }
    for name, lines in rows.items():
        own.keep(name, lambda row: False)  # of a process that was stopped while it wrote
        own.append(name, *lines)
    tree = {"state": setting(hosts.gathered(result.state), number)}
    if scores := [row[score] for row in rows["metrics"] if score in row]:
        tree["best"] = setting(result.adapter, number)
        tree["best_score"] = np.asarray(np.nanmax(scores, initial=-np.inf), np.float32)
    with Checkpoints(own) as saved:
        if saved.newest() is None:  # else a process that was stopped later has got as far as here
            saved.save(len(metrics), tree)
    return own


def _of(value: Any, number: int) -> Any:
    return value[number] if isinstance(value, list) else value
