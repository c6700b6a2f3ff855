"""Stage 1 by round: loss, validation score, and the three norms of Profit, Figure 3 (right)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

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

    The second panel is there when a run recorded a validation score.
    """
    _check(runs)
    scored = any(series(run, "validation_score")[0].size for run in runs)
    with style.look():
        figure, axes = style.panels(2 if scored else 1)
        for index, run in enumerate(runs):
            axes[0].plot(*series(run, "loss"), lw=LINE, color=style.colour(index), label=run.label)
            if scored:
                look = {"color": style.colour(index), "marker": style.marker(index)}
                axes[1].plot(*series(run, "validation_score"), label=run.label, **look)
        axes[0].set(xlabel="round", ylabel="training loss")
        if scored:
            axes[1].set(xlabel="round", ylabel="global validation score (ROUGE-L)")
        style.legend(figure, axes[0])
    return figure


def norms(runs: Sequence[Run]) -> Figure:
    """Profit, Figure 3 (right): Frobenius norms by round, on one log scale.

    Panels side by side for the adapter, the mean over the cohort of the clients' gradient norms, and the
    adapter's change in the round; one colour a run.
    """
    _check(runs)
    with style.look():
        figure, axes = style.panels(len(NORMS), size=(3.2, style.PANEL[1]), sharey=True)
        for panel, (field, name) in zip(axes, NORMS.items(), strict=True):
            for index, run in enumerate(runs):
                rounds, values = series(run, field)
                shown = values > 0  # zero has no place on a log scale
                panel.plot(rounds[shown], values[shown], lw=LINE, color=style.colour(index), label=run.label)
            panel.set(xlabel="round", title=name, yscale="log")
        axes[0].set_ylabel("Frobenius norm")
        style.legend(figure, axes[0])
    return figure


def _check(runs: Sequence[Run]) -> None:
    for run in runs:
        if not run.rounds:
            raise InputError(f"{run.label}: no rounds are recorded")
