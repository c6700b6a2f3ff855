"""Personalization against robustness: local score (x) and global score (y) of stage 2, by epoch of personalization.

Scores are ROUGE-L, 0 to 1, as recorded. A mean over clients is the plain mean of the clients' scores, each client
counting once, whatever the number of its test instances.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from profit_jax.errors import InputError
from profit_jax.plots import style
from profit_jax.plots.records import Record, Run

LOCAL = "local score (ROUGE-L)"
GLOBAL = "global score (ROUGE-L)"
SIZE = (6.2, 4.4)  # inches: these figures carry more curves than others
RING = {"marker": "o", "ls": "", "ms": 11, "mfc": "none", "mew": 1.4}

Statistic = Callable[[np.ndarray], float]


class Curve(NamedTuple):
    """Evaluation points in order, summarized over clients; arrays `[points]`."""

    steps: np.ndarray  # epochs; of model averaging the weight alpha of the personalized prompt
    local: np.ndarray
    robust: np.ndarray  # the global score


def curve(run: Run, point: str = "epoch", statistic: Statistic = np.mean) -> Curve:
    """Summarizes a run's evaluation points over its clients.

    Args:
      run: a run of stage 2.
      point: "epoch" (after each evaluated epoch; epoch 0 is the global prompt), "average" (model averaging, by alpha)
        or "genie".
      statistic: `[clients]` -> a number, taken of local and of global scores apart.

    Returns:
      The curve; empty when the run has no such points. Points that not every client has reached (the run was
      stopped there) are left out with a warning: their mean would be over other clients.
    """
    groups: dict[float, list[Record]] = defaultdict(list)
    for line in run.clients:
        if line["point"] == point:
            groups[line["alpha" if point == "average" else "epoch"]].append(line)
    everyone = {line["client"] for lines in groups.values() for line in lines}
    steps = [step for step in sorted(groups) if {line["client"] for line in groups[step]} == everyone]
    if len(steps) < len(groups):
        warnings.warn(f"{run.label}: {len(groups) - len(steps)} evaluation points lack clients, left out", stacklevel=2)
    return Curve(
        np.array(steps, float),
        np.array([statistic(scores(groups[step], "local")) for step in steps]),
        np.array([statistic(scores(groups[step], "global")) for step in steps]),
    )


def scores(lines: Sequence[Record], field: str) -> np.ndarray:
    """One field of client records, `[clients]`, ordered by client."""
    return np.array([line[field] for line in sorted(lines, key=lambda line: line["client"])], float)


def means(runs: Sequence[Run], title: str = "", genie: bool = False) -> Figure:
    """Profit, Figures 3 (left, center), 4, 5 and, with `genie`, 19: mean local score (x) against mean global score (y).

    One curve a run, its points in the order of epochs: a ring is the start (the global prompt), a large marker with a
    black edge the last epoch. Model averaging (alpha from 0 to 1) is a dashed curve of the same colour with hollow
    squares, the genie a dotted one with stars. A run evaluated once only, such as a baseline without training, is a
    single large star.
    """
    _check(runs)
    with style.look():
        figure, (axes,) = style.panels(size=SIZE)
        for index, run in enumerate(runs):
            colour = style.colour(index)
            path = curve(run)
            if path.steps.size == 1:
                axes.plot(path.local, path.robust, "*", ms=13, color=colour, mec="black", mew=0.6, label=run.label)
            else:
                _draw(axes, path, color=colour, marker=style.marker(index), label=run.label)
            dashed = {"color": colour, "marker": "s", "mfc": "white", "ls": "--", "lw": 1.0}
            _draw(axes, curve(run, "average"), label=f"{run.label}, model averaging", ends=False, **dashed)
            if genie:
                dotted = {"color": colour, "marker": "*", "ms": 7, "ls": ":", "lw": 1.0}
                _draw(axes, curve(run, "genie"), label=f"{run.label}, genie", ends=False, **dotted)
        axes.plot([], [], **RING, mec="0.35", label="start: the global prompt")
        axes.plot([], [], "o", ms=9, mfc="0.75", mec="black", mew=1.2, label="end: the last epoch")
        axes.set(xlabel=f"mean {LOCAL}", ylabel=f"mean {GLOBAL}", title=title)
        axes.margins(0.08)
        style.legend(figure, axes, columns=2)
    return figure


def percentiles(runs: Sequence[Run], low: float = 10, high: float = 90, title: str = "") -> Figure:
    """Profit, Figure 18: percentiles over clients of local (x) and of global scores (y), by epoch.

    A point is (percentile of local scores, percentile of global scores), each taken over clients by itself; the high
    percentile is drawn full, the low one dashed and hollow.
    """
    kinds = ((high, {}), (low, {"ls": "--", "mfc": "white"}))
    _check(runs)
    with style.look():
        figure, (axes,) = style.panels(size=SIZE)
        for index, run in enumerate(runs):
            look = {"color": style.colour(index), "marker": style.marker(index)}
            for percent, extra in kinds:
                path = curve(run, statistic=lambda values, percent=percent: float(np.percentile(values, percent)))
                _draw(axes, path, **look, **extra)
            axes.plot([], [], label=run.label, **look)
        for percent, extra in kinds:
            axes.plot([], [], label=f"{percent:g}th percentile", color="0.35", marker="o", **extra)
        axes.set(xlabel=f"percentile of {LOCAL}", ylabel=f"percentile of {GLOBAL}", title=title)
        axes.margins(0.08)
        style.legend(figure, axes, columns=2)
    return figure


def clients(run: Run, title: str = "") -> Figure:
    """Profit, Figure 17: each client's local (x) and global score (y) before and after personalization.

    Before is epoch 0, after the last epoch that every client has reached; a thin line joins a client's two points.
    A run evaluated once only has no after.
    """
    _check([run])
    path = curve(run)
    if not path.steps.size:
        raise InputError(f"{run.label}: no evaluation point has every client")
    with style.look():
        figure, (axes,) = style.panels()
        places = []
        for index, (name, epoch) in enumerate(zip(("before", "after"), dict.fromkeys(path.steps[[0, -1]]))):
            lines = [line for line in run.clients if line["point"] == "epoch" and line["epoch"] == epoch]
            places.append((scores(lines, "local"), scores(lines, "global")))
            look = {"color": style.colour(index), "marker": "o^"[index], "label": f"{name} (epoch {epoch:g})"}
            axes.scatter(*places[-1], zorder=2, **look)
        axes.plot(*np.swapaxes(places, 0, 1), color="0.75", lw=0.7, zorder=1)
        axes.set(xlabel=LOCAL, ylabel=GLOBAL, title=title or run.label)
        axes.margins(0.08)
        style.legend(figure, axes)
    return figure


def _draw(axes: Axes, path: Curve, *, ends: bool = True, **look: Any) -> None:
    """Draws a curve; with `ends`, a ring around its start and a large marker at its last point."""
    if not path.steps.size:
        return
    axes.plot(path.local, path.robust, **look)
    if ends and path.steps.size > 1:
        axes.plot(path.local[:1], path.robust[:1], **RING, mec=look["color"])
        face = look.get("mfc", look["color"])
        edge = {"ms": 9, "mfc": face, "mec": "black" if face == look["color"] else look["color"], "mew": 1.2}
        axes.plot(path.local[-1:], path.robust[-1:], look["marker"], zorder=3, **edge)


def _check(runs: Sequence[Run]) -> None:
    for run in runs:
        if not any(line["point"] == "epoch" for line in run.clients):
            raise InputError(f"{run.label}: no clients are recorded")
