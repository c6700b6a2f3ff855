"""Personalized perplexity: PerFIT, Figures 2 to 6 and 8, and the numbers of Tables 1 to 3.

Perplexity is exp of the mean negative log-likelihood of a token on a client's own test rows, as recorded. A mean over
clients is the plain mean of the clients' perplexities, each client counting once, whatever the number of its tokens.

Runs that share a label are seeds of one setting: what is drawn and reported is their mean.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from profit_jax.errors import InputError
from profit_jax.plots import style
from profit_jax.plots.effects import interval
from profit_jax.plots.records import Panels, Record, Run

SIZE = (6.2, 4.2)  # inches: the curves lie close to each other


class Setting(NamedTuple):
    """The seeds of one setting, at the rounds that every client of every seed has reached."""

    label: str
    runs: dict[int, Run]  # by seed
    rounds: np.ndarray  # [rounds]; round 0 is before training
    values: np.ndarray  # [seeds, rounds]: perplexity, mean over clients


class Row(NamedTuple):
    """A setting's line in the summary. Perplexities are means over clients."""

    label: str
    seeds: int
    round: int  # the last that every client of every seed has reached
    last: float  # perplexity at that round, mean over seeds
    std: float | None  # its standard deviation over seeds
    best: float  # each seed's lowest perplexity over the rounds, mean over seeds
    difference: float | None  # `last` minus the first setting's, mean over the seeds that both have
    low: float | None  # 95 % t interval of that difference
    high: float | None
    pairs: int | None  # how many seeds both have


def by_setting(runs: Iterable[Run]) -> list[Setting]:
    """Groups runs by label, in the order in which labels first appear.

    Rounds that not every client of every seed has reached (a run was stopped there) are left out with a warning:
    their mean would be over other clients, or over other seeds.

    Raises:
      InputError: a run without a seed in its config or without perplexities, two runs that share label and seed, or
        seeds that no round has in common.
    """
    groups: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if "seed" not in run.config:
            raise InputError(f"{run.label}: config.json has no field 'seed'")
        seed = run.config["seed"]
        if seed in groups[run.label]:
            raise InputError(f"two runs are called {run.label!r} and have seed {seed}")
        groups[run.label][seed] = run
    return [_setting(label, seeds) for label, seeds in groups.items()]


def curves(panels: Mapping[str, Sequence[Setting]]) -> Figure:
    """PerFIT, Figures 2 to 6 and 8: mean personalized perplexity over clients, by round; round 0 is before training.

    One line a setting. With several seeds the line is their mean and the light band reaches from the lowest to the
    highest of them; the legend tells their number. Where the fall in the first rounds would take more than half of the
    axis, the axis ends below its top, and its label tells how high it was: settings differ by few percent after
    training, which neither an axis that holds the start nor a log scale would show.

    Args:
      panels: title -> settings.

    Raises:
      InputError: a panel without a setting.
    """
    for settings in panels.values():
        _check(settings)
    with style.look():
        figure, every = style.panels(len(panels), size=style.PANEL if len(panels) > 1 else SIZE)
        places = style.places(panels)
        for axes, (title, settings) in zip(every, panels.items(), strict=True):
            for setting in settings:
                _draw(axes, setting, places[setting.label])
            axes.set(xlabel="round", title=title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _cut_fall(axes, settings)
        every[0].set_ylabel("mean personalized perplexity")
        if any(len(setting.runs) > 1 for settings in panels.values() for setting in settings):
            every[-1].fill_between([], [], color="0.8", lw=0, label="lowest to highest seed")
        style.legend(figure, every)
    return figure


def clients(panels: Panels) -> Figure:
    """Each client's last perplexity in a panel's first run (x) and in its others (y); under the diagonal is better.

    One point a client and run, each at the run's last round that every client has reached. Both axes are logarithmic
    with the same limits: a distance from the diagonal is a ratio, wherever it stands. PerFIT's Tables 1 to 3 compare
    the means over these clients.

    Raises:
      InputError: no run but the first, one without perplexities, or one that has measured other clients or test rows.
    """
    for _, *runs in panels.values():
        _check(runs)
    with style.look():
        figure, every = style.panels(len(panels), size=(5.0, 4.6))
        places = style.places(panels)
        for axes, (title, (baseline, *runs)) in zip(every, panels.items(), strict=True):
            across = last_round(baseline)
            for run in runs:
                if not same_clients(baseline, run):
                    raise InputError(f"{run.label}: other clients or test rows than {baseline.label}")
                look = {"color": style.colour(places[run.label]), "marker": style.marker(places[run.label])}
                points = [
                    (line["perplexity"], other["perplexity"])
                    for line, other in zip(across, last_round(run), strict=True)
                ]
                axes.scatter(*zip(*points, strict=True), s=18, alpha=0.7, lw=0, label=run.label, **look)
            axes.set(xlabel=f"perplexity, baseline: {baseline.label}", title=title)
            _diagonal(axes)
        every[0].set_ylabel("perplexity (under the diagonal: better than the baseline)")
        style.legend(figure, every)
    return figure


def same_clients(run: Run, other: Run) -> bool:
    """Whether two runs have measured the same clients on the same test rows, as far as records tell."""
    told = [
        (
            one.config.get("split"),
            one.config.get("seed"),
            [(line["client"], line["tokens"]) for line in last_round(one)],
        )
        for one in (run, other)
    ]
    return told[0] == told[1]


def summary(settings: Sequence[Setting]) -> list[Row]:
    """The numbers of PerFIT's Tables 1 to 3, with their spread over seeds: one row a setting.

    Differences are to the first setting, paired by seed: a seed draws the clients' data in both. Their interval is
    Student's t over the pairs. What takes more seeds than there are is None.

    Raises:
      InputError: no setting.
    """
    _check(settings)
    baseline, *others = settings
    return [_row(baseline, None), *(_row(setting, baseline) for setting in others)]


def _setting(label: str, runs: dict[int, Run]) -> Setting:
    each = {seed: _complete(run) for seed, run in runs.items()}
    rounds = sorted(set.intersection(*map(set, each.values())))
    _warn(label, len(set().union(*each.values())) - len(rounds), "seeds")
    if not rounds:
        raise InputError(f"{label}: no round that every seed has reached")
    kept = {
        seed: replace(run, perplexities=tuple(line for number in rounds for line in each[seed][number]))
        for seed, run in runs.items()
    }
    values = [[np.mean([line["perplexity"] for line in seed[number]]) for number in rounds] for seed in each.values()]
    return Setting(label, kept, np.array(rounds, int), np.array(values, float))


def _row(setting: Setting, baseline: Setting | None) -> Row:
    last = setting.values[:, -1]
    difference = low = high = pairs = None
    if baseline:
        start = dict(zip(baseline.runs, baseline.values[:, -1], strict=True))
        paired = [value - start[seed] for seed, value in zip(setting.runs, last, strict=True) if seed in start]
        pairs = len(paired)
        difference = float(np.mean(paired)) if paired else None
        low, high = interval(paired)
    return Row(
        label=setting.label,
        seeds=len(last),
        round=int(setting.rounds[-1]),
        last=float(np.mean(last)),
        std=float(np.std(last, ddof=1)) if len(last) > 1 else None,
        best=float(np.mean(setting.values.min(axis=1))),
        difference=difference,
        low=low,
        high=high,
        pairs=pairs,
    )


def _complete(run: Run) -> dict[int, list[Record]]:
    """Round -> records by client, for the rounds that every client has reached."""
    rounds: dict[int, list[Record]] = defaultdict(list)
    for line in run.perplexities:
        rounds[line["round"]].append(line)
    everyone = {line["client"] for line in run.perplexities}
    complete = {number: lines for number, lines in rounds.items() if {line["client"] for line in lines} == everyone}
    _warn(f"{run.label}, seed {run.config.get('seed')}", len(rounds) - len(complete), "clients")
    if not complete:
        what = "no round has every client" if rounds else "no perplexities are recorded"
        raise InputError(f"{run.label}: {what}")
    return complete


def last_round(run: Run) -> list[Record]:
    """Records by client at the last round that every client has reached."""
    complete = _complete(run)
    return complete[max(complete)]


def _draw(axes: Axes, setting: Setting, place: int) -> None:
    """A setting's line and band."""
    look, count = {"color": style.colour(place), "marker": style.marker(place)}, len(setting.runs)
    name = f"{setting.label} ({count} seeds)" if count > 1 else setting.label
    axes.plot(setting.rounds, setting.values.mean(axis=0), ms=3.5, label=name, **look)
    if count > 1:
        band = (setting.values.min(axis=0), setting.values.max(axis=0))
        axes.fill_between(setting.rounds, *band, color=look["color"], alpha=0.2, lw=0)


def _diagonal(axes: Axes) -> None:
    """Makes both axes logarithmic with the same limits, and draws where they are equal."""
    axes.set(xscale="log", yscale="log")
    limits = (min(*axes.get_xlim(), *axes.get_ylim()), max(*axes.get_xlim(), *axes.get_ylim()))
    axes.plot(limits, limits, color="0.5", lw=0.8, zorder=1)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    decades = np.log10(limits[1] / limits[0])
    ticks = (1, 1.5, 2, 3, 4, 5, 6, 8) if decades < 1 else (1, 2, 5) if decades < 2.5 else (1,)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=ticks))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())


def _cut_fall(axes: Axes, settings: Sequence[Setting]) -> None:
    """Ends the y axis where values begin to be outliers among those after training has begun, or leaves it as it is.

    The limit is Tukey's, 1.5 interquartile ranges above the upper quartile; but no setting's last round lies above it,
    and the axis spans a tenth of the perplexity at least, so that noise does not fill it.
    """
    rounds = np.concatenate([np.broadcast_to(each.rounds, each.values.shape).ravel() for each in settings])
    values = np.concatenate([each.values.ravel() for each in settings])
    last = np.concatenate([each.values[:, -1] for each in settings])
    if not np.all(np.isfinite(values)) or not np.any(rounds > 0):
        return
    lower, upper = np.percentile(values[rounds > 0], (25, 75))
    bottom, top = values.min(), max(upper + 1.5 * (upper - lower), last.max(), 1.1 * values.min())
    if values.max() - bottom > 2 * (top - bottom):
        margin = 0.05 * (top - bottom)
        axes.set_ylim(bottom - margin, top + margin)
        axes.set_xlabel(f"round\n(until round {rounds[values > top].max()} values up to {values.max():.3g} lie above)")


def _warn(label: str, count: int, lacking: str) -> None:
    if count:
        warnings.warn(f"{label}: {count} rounds lack {lacking}, left out", stacklevel=3)


def _check(drawn: Sequence[Run] | Sequence[Setting]) -> None:
    if not drawn:
        raise InputError("no run to draw")
