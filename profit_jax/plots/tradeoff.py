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
from profit_jax.plots.records import Panels, Record, Run

LOCAL = "local score (ROUGE-L)"
GLOBAL = "global score (ROUGE-L)"
SIZE = (6.2, 4.4)  # inches: these figures carry more curves than others
HEURISTICS = ("l2", "freeze_first", "freeze_last")  # fields of stage 2 that are 0 without them
THIN = {"lw": 0.6, "alpha": 0.5, "marker": ".", "ms": 3}  # a single seed
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


def means(panels: Panels, genie: bool = False) -> Figure:
    """Profit, Figures 3 (left, center), 4, 5, 7 to 16 and, with `genie`, 19: mean local (x) and global score (y).

    One curve a run, its points in the order of epochs: a ring is the start (the global prompt), a large marker with a
    black edge the last epoch. Of a mean over seeds each seed is drawn thin beside it. Model averaging (alpha from 0 to
    1) is a dashed curve of the same colour with hollow squares, the genie a dotted one with stars, of runs without
    heuristics, as in the paper. A run evaluated once only, such as a baseline without training, is a single large star.
    """
    _check(panels)
    with style.look():
        figure, every = _panels(panels)
        places = style.places(panels)
        for axes, runs in zip(every, panels.values(), strict=True):
            for run in runs:
                _draw_run(axes, run, places[run.label], genie)
            axes.set(xlabel=f"mean {LOCAL}")
            axes.margins(0.08)
        every[0].set_ylabel(f"mean {GLOBAL}")
        every[0].plot([], [], **RING, mec="0.35", label="start: the global prompt")
        every[0].plot([], [], "o", ms=9, mfc="0.75", mec="black", mew=1.2, label="end: the last epoch")
        if any(run.seeds for runs in panels.values() for run in runs):
            every[0].plot([], [], color="0.35", **THIN, label="thin: each seed")
        style.legend(figure, every, columns=2)
    return figure


def percentiles(panels: Panels, low: float = 10, high: float = 90) -> Figure:
    """Profit, Figure 18: percentiles over clients of local (x) and of global scores (y), by epoch.

    A point is (percentile of local scores, percentile of global scores), each taken over clients by itself, over those
    of all seeds; the high percentile is drawn full, the low one dashed and hollow.
    """
    kinds: tuple[tuple[float, dict[str, Any]], ...] = ((high, {}), (low, {"ls": "--", "mfc": "white"}))
    _check(panels)
    with style.look():
        figure, every = _panels(panels)
        places = style.places(panels)
        for axes, runs in zip(every, panels.values(), strict=True):
            for run in runs:
                look = {"color": style.colour(places[run.label]), "marker": style.marker(places[run.label])}
                for percent, extra in kinds:
                    _draw(axes, curve(run, statistic=percentile(percent)), **look, **extra)
                axes.plot([], [], label=run.label, **look)
            axes.set(xlabel=f"percentile of {LOCAL}")
            axes.margins(0.08)
        every[0].set_ylabel(f"percentile of {GLOBAL}")
        for percent, extra in kinds:
            every[0].plot([], [], label=f"{percent:g}th percentile", color="0.35", marker="o", **extra)
        style.legend(figure, every, columns=2)
    return figure


def percentile(percent: float) -> Statistic:
    """The percentile as a statistic of `curve`."""
    return lambda values: float(np.percentile(values, percent))


def clients(run: Run, title: str = "") -> Figure:
    """Profit, Figure 17: each client's local (x) and global score (y) before and after personalization.

    Before is epoch 0, after the last epoch that every client has reached; a thin line joins a client's two points.
    A run evaluated once only has no after.
    """
    _check({title: [run]})
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
        style.legend(figure, [axes])
    return figure


def _panels(panels: Panels) -> tuple[Figure, list[Axes]]:
    """Axes with the panels' titles; side by side they share the scale of global scores."""
    figure, every = style.panels(len(panels), style.PANEL if len(panels) > 1 else SIZE, sharey=True)
    for axes, title in zip(every, panels, strict=True):
        axes.set_title(title)
    return figure, every


def _draw_run(axes: Axes, run: Run, place: int, genie: bool) -> None:
    colour, path = style.colour(place), curve(run)
    for one in run.seeds:
        own = curve(one)
        axes.plot(own.local, own.robust, color=colour, zorder=1, **THIN)
    if path.steps.size == 1:
        axes.plot(path.local, path.robust, "*", ms=13, color=colour, mec="black", mew=0.6, label=run.label)
    else:
        _draw(axes, path, color=colour, marker=style.marker(place), label=run.label)
    dashed = {"color": colour, "marker": "s", "mfc": "white", "ls": "--", "lw": 1.0}
    _draw(axes, curve(run, "average"), label=f"{run.label}, model averaging", ends=False, **dashed)
    if genie and not any(run.config.get("personalize", {}).get(heuristic) for heuristic in HEURISTICS):
        dotted = {"color": colour, "marker": "*", "ms": 7, "ls": ":", "lw": 1.0}
        _draw(axes, curve(run, "genie"), label=f"{run.label}, genie", ends=False, **dotted)


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


def _check(panels: Panels) -> None:
    for run in (run for runs in panels.values() for run in runs):
        if not any(line["point"] == "epoch" for line in run.clients):
            raise InputError(f"{run.label}: no clients are recorded")
