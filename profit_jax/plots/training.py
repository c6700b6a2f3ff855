"""Stage 1 by round: loss, validation score, and the three norms of Profit, Figure 3 (right)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from profit_jax.errors import InputError
from profit_jax.plots import style
from profit_jax.plots.records import Run

NORMS = {
    "adapter_norm": "adapter",
    "client_gradient_norm": "mean client gradient",
    "adapter_change_norm": "change of the adapter in a round",
}
LINE = 1.0  # width: rounds are noisy


def series(run: Run, field: str) -> tuple[np.ndarray, np.ndarray]:
    """The rounds that recorded a field, and its values there: two arrays `[points]`."""
    points = [(line["round"], line[field]) for line in run.rounds if line.get(field) is not None]
    rounds, values = zip(*points, strict=True) if points else ((), ())
    return np.array(rounds, int), np.array(values, float)


def loss(runs: Sequence[Run]) -> Figure:
    """Training loss by round (nats an example under Equation 1), and beside it the global validation score (ROUGE-L).

    The second panel is there when a run recorded a validation score. Of a mean over seeds the light band reaches from
    the lowest to the highest of them.
    """
    _check(runs)
    scored = any(series(run, "validation_score")[0].size for run in runs)
    with style.look():
        figure, axes = style.panels(2 if scored else 1)
        for index, run in enumerate(runs):
            axes[0].plot(*series(run, "loss"), lw=LINE, color=style.colour(index), label=run.label)
            _band(axes[0], run, "loss", index)
            if scored:
                look = {"color": style.colour(index), "marker": style.marker(index)}
                axes[1].plot(*series(run, "validation_score"), label=run.label, **look)
                _band(axes[1], run, "validation_score", index)
        axes[0].set(xlabel="round", ylabel="training loss")
        if scored:
            axes[1].set(xlabel="round", ylabel="global validation score (ROUGE-L)")
        style.legend(figure, axes[:1])
    return figure


def norms(runs: Sequence[Run]) -> Figure:
    """Profit, Figure 3 (right): Frobenius norms by round, on one log scale.

    Panels side by side for the adapter, the mean over the cohort of the clients' gradient norms, and the
    adapter's change in the round; one colour a run, with a band over seeds as in `loss`.
    """
    _check(runs)
    with style.look():
        figure, axes = style.panels(len(NORMS), size=(3.2, style.PANEL[1]), sharey=True)
        for panel, (field, name) in zip(axes, NORMS.items(), strict=True):
            for index, run in enumerate(runs):
                rounds, values = series(run, field)
                shown = values > 0  # zero has no place on a log scale
                panel.plot(rounds[shown], values[shown], lw=LINE, color=style.colour(index), label=run.label)
                _band(panel, run, field, index)
            panel.set(xlabel="round", title=name, yscale="log")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0].set_ylabel("Frobenius norm")
        style.legend(figure, axes[:1])
    return figure


def _band(axes: Axes, run: Run, field: str, index: int) -> None:
    """From the lowest to the highest seed, where the run is a mean over several."""
    each = [dict(zip(*series(one, field), strict=True)) for one in run.seeds]
    rounds = sorted(set.intersection(*map(set, each))) if each else []
    values = np.array([[one[number] for number in rounds] for one in each]).reshape(len(each), len(rounds))
    if values.size:
        axes.fill_between(rounds, values.min(axis=0), values.max(axis=0), color=style.colour(index), alpha=0.2, lw=0)


def _check(runs: Sequence[Run]) -> None:
    for run in runs:
        if not run.rounds:
            raise InputError(f"{run.label}: no rounds are recorded")
