"""How different the clients are: the columns of Profit's Table 1 and the divergences of its Figure 6.

Both are functions of one matrix, `counts [clients, tasks]`: the instances of each task that each client holds.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profit_jax.data.partition import Partition
from profit_jax.data.tasks import Task
from profit_jax.files import write_whole

CATEGORIES: dict[str, Callable[[Task], tuple[str, ...]]] = {
    "task_type": lambda task: task.categories,
    "task": lambda task: (task.name,),
    "source": lambda task: task.source,
    "domain": lambda task: task.domains,
    "reasoning": lambda task: task.reasoning,
    "input_language": lambda task: task.input_language,
    "output_language": lambda task: task.output_language,
}
"""The metadata categories of Figure 6: name -> a task's entries."""


def task_counts(partition: Partition, task: np.ndarray, tasks: int) -> np.ndarray:
    """Instances of each task in each client, `[clients, tasks]`; `task [n]` is the task of each instance."""
    client = np.repeat(np.arange(partition.clients), partition.sizes)
    flat = np.bincount(client * tasks + task[partition.order], minlength=partition.clients * tasks)
    return flat.reshape(partition.clients, tasks)


def entry_shares(entries: Sequence[tuple[str, ...]]) -> np.ndarray:
    """What one instance of each task gives to each value of a category, `[tasks, values]`; rows sum to 1.

    A task that lists k entries gives 1/k to each. A task that lists none gives its whole mass to one value of its
    own, "no entry", since half of the tasks name no reasoning and leaving them out would compare other clients.
    """
    listed = [names or (None,) for names in entries]
    column = {name: i for i, name in enumerate(dict.fromkeys(name for names in listed for name in names))}
    shares = np.zeros((len(listed), len(column)))
    for row, names in zip(shares, listed):
        for name in names:
            row[column[name]] += 1 / len(names)
    return shares


def mean_divergence(counts: np.ndarray, shares: np.ndarray) -> float:
    """The mean over clients of the divergence between a client's and the global distribution, in nats.

    With `m_c(v) = Σ_t counts[c, t] · shares[t, v]` the mass of value v in client c,

        p_c(v) = m_c(v) / Σ_u m_c(u),    p(v) = Σ_c m_c(v) / Σ_c Σ_u m_c(u),
        KL = 1/C Σ_c Σ_v p_c(v) · log(p_c(v) / p(v)),

    so in p a client weighs as much as it has instances, and in the mean over clients all weigh the same; values that
    a client lacks contribute 0.

    >>> round(mean_divergence(np.array([[2, 0], [1, 1]]), np.eye(2)), 4)  # (log 4/3 + ½ log 2/3 + ½ log 2) / 2
    0.2158
    """
    mass = counts @ shares
    client = mass / mass.sum(axis=1, keepdims=True)
    ratio = np.divide(client, mass.sum(axis=0) / mass.sum(), out=np.ones_like(client), where=client > 0)
    return float((client * np.log(ratio)).sum(axis=1).mean())


def summary(counts: np.ndarray, tasks: Sequence[Task]) -> dict[str, Any]:
    """One split of one partition: Table 1's row and Figure 6's seven values.

    Each of `instances`, `tasks` and `task_types` is the mean and the (population) standard deviation across clients
    of how many the client has; the last two count distinct ones.
    """
    shares = {name: entry_shares([entries(task) for task in tasks]) for name, entries in CATEGORIES.items()}
    kinds = entry_shares([(task.task_type,) for task in tasks])
    return {
        "clients": len(counts),
        "total_instances": int(counts.sum()),
        "instances": _spread(counts.sum(axis=1)),
        "tasks": _spread((counts > 0).sum(axis=1)),
        "task_types": _spread((counts @ kinds > 0).sum(axis=1)),
        "kl_divergence": {name: mean_divergence(counts, share) for name, share in shares.items()},
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": int(values.min()),
        "max": int(values.max()),
    }


def record(counts: Mapping[str, np.ndarray], tasks: Sequence[Task]) -> dict[str, Any]:
    """One partition: the training clients' `summary`, and beside it that of `validation` and of `test`."""
    return {
        **summary(counts["train"], tasks),
        "validation": summary(counts["validation"], tasks),
        "test": summary(counts["test"], tasks),
    }


def write(path: str | os.PathLike[str], partitions: Mapping[str, Any]) -> None:
    """Writes partition -> `record` as JSON, whole or not at all."""
    write_whole(Path(path), json.dumps(partitions, indent=2) + "\n")
