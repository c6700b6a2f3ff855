"""The seeds of one setting of Profit as one run, to draw: Figures 3 to 5 average two trials with distinct seeds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from profit_jax.plots.records import Record, Run


def pool(runs: Sequence[Run]) -> Run:
    """One run whose clients are those of all, and whose rounds are the means over them.

    Every seed has as many clients, so a mean over the pooled ones is the mean over seeds of the means over clients.
    Rounds that not every run has reached are left out. The runs themselves stand in `seeds`.
    """
    apart = 1 + max((line["client"] for run in runs for line in run.clients), default=0)
    clients = [
        {**line, "client": index * apart + line["client"]} for index, run in enumerate(runs) for line in run.clients
    ]
    by_round = [{line["round"]: line for line in run.rounds} for run in runs]
    common = sorted(set.intersection(*map(set, by_round)))
    rounds = [_mean([each[number] for each in by_round]) for number in common]
    return replace(runs[0], clients=tuple(clients), rounds=tuple(rounds), seeds=tuple(runs))


def _mean(lines: Sequence[Record]) -> Record:
    """The mean of every number that all lines hold."""
    shared = [
        name for name in lines[0] if all(isinstance(line.get(name), int | float) for line in lines) and name != "round"
    ]
    return {"round": lines[0]["round"], **{name: float(np.mean([line[name] for line in lines])) for name in shared}}
