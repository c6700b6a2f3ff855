"""Curves to look into in a browser, with Bokeh: the mean over clients bold, every client thin.

A run's numbers (`data`) and the charts that show them (`panels`) are apart, so that a page carries the numbers of a run
once, in however many charts it is drawn. A chart holds no number: it names, for each run, the data sources that the
page fills.

Needs Bokeh, which the rest of `profit_jax.plots` does not: import this module by its name.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.embed import json_item
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from profit_jax.errors import InputError
from profit_jax.plots import perplexity, seeds, style, tradeoff
from profit_jax.plots.records import Record, Run

DIGITS = 4  # significant, of every number that a page carries
HEIGHT = 320  # pixels
FONT = "14px"
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x", "hex")  # as in style
AXES = {
    "epoch": "epoch of personalization",
    "local": tradeoff.LOCAL,
    "global": tradeoff.GLOBAL,
    "round": "round",
    "perplexity": "perplexity",
}
# What a chart shows on x and y, and whether y is logarithmic.
PERSONALIZATION: Sequence[tuple[str, str, bool]] = (
    ("epoch", "local", False),
    ("epoch", "global", False),
    ("local", "global", False),
)
PERPLEXITY: Sequence[tuple[str, str, bool]] = (("round", "perplexity", True),)


@dataclass(frozen=True)
class Panel:
    """A chart, and what a page needs to fill it."""

    title: str
    x: str
    y: str
    item: Mapping[str, Any]  # what Bokeh.embed.embed_item takes
    sources: Mapping[str, Mapping[str, str]]  # label -> clients, mean, average, focus -> id of the data source


def data(runs: Sequence[Run]) -> dict[str, Any]:
    """The numbers of one setting over its seeds, rounded, ready for JSON.

    Args:
      runs: the seeds, all of personalization or all of PerFIT.

    Returns:
      `along`: what the steps are, epoch or round; `steps`: those that any client has reached; `clients`: for each seed
      and client its numbers at the steps, None where there is none; `mean`: the same of the mean over clients, then
      seeds; `average`: local and global score along alpha of model averaging, where that is recorded.

    Raises:
      InputError: neither clients nor perplexities are recorded, or no step that every client has reached.
    """
    if all(run.perplexities for run in runs):
        (setting,) = perplexity.by_setting(runs)
        mean = dict(zip(setting.rounds.tolist(), setting.values.mean(axis=0), strict=True))
        lines = {_seed(run): run.perplexities for run in runs}
        return _data("round", lines, {"perplexity": mean}) | {"average": {}}
    if not all(run.clients for run in runs):
        raise InputError(f"{runs[0].label}: neither clients nor perplexities are recorded")
    pooled = seeds.pool(runs)
    curve, averaged = tradeoff.curve(pooled), tradeoff.curve(pooled, "average")
    lines = {_seed(run): [line for line in run.clients if line["point"] == "epoch"] for run in runs}
    mean = {name: dict(zip(curve.steps, values)) for name, values in (("local", curve.local), ("global", curve.robust))}
    average = {"local": _rounded(averaged.local), "global": _rounded(averaged.robust)} if averaged.steps.size else {}
    return _data("epoch", lines, mean) | {"average": average}


def panels(places: Mapping[str, int], kind: Sequence[tuple[str, str, bool]], clients: int) -> list[Panel]:
    """Charts side by side, with the same runs in the same colours.

    Args:
      places: the runs' names, and the place of each among colours and markers.
      kind: `PERSONALIZATION` or `PERPLEXITY`.
      clients: how many thin curves a chart will hold; the more, the fainter each.
    """
    return [_panel(places, *axes, alpha=max(0.08, min(0.3, 24 / clients))) for axes in kind]


def _panel(places: Mapping[str, int], x: str, y: str, log: bool, alpha: float) -> Panel:
    chart = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        tools="box_zoom,pan,reset",
        active_drag=None,  # a finger that moves over the chart moves the page
        toolbar_location="above",
        y_axis_type="log" if log else "linear",
        x_axis_label=AXES[x],
        y_axis_label=AXES[y],
        min_border_right=12,
    )
    chart.toolbar.logo = chart.title = None
    chart.axis.axis_label_text_font_size = chart.axis.major_label_text_font_size = FONT
    chart.axis.axis_label_text_font_style = "normal"
    chart.axis.minor_tick_line_color = None
    chart.grid.grid_line_alpha = 0.5
    chart.grid.level = "image"  # under every curve
    if x != "local":
        chart.xaxis.ticker.min_interval = 1  # pyrefly: ignore[missing-attribute]  a linear axis has a BasicTicker
    sources = {}
    for label, index in places.items():
        own = {part: ColumnDataSource({"x": [], "y": []}) for part in ("clients", "average", "mean")}
        own["focus"] = ColumnDataSource({"x": [], "y": [], "size": []})
        colour, marker = style.colour(index), MARKERS[index % len(MARKERS)]
        under: dict[str, Any] = {"color": colour, "level": "underlay"}
        over: dict[str, Any] = {"color": colour, "level": "overlay"}
        chart.multi_line("x", "y", source=own["clients"], alpha=alpha, line_width=1.2, **under)
        chart.line("x", "y", source=own["average"], color=colour, line_width=2, line_dash="dashed")
        chart.line("x", "y", source=own["mean"], color=colour, line_width=3)
        chart.scatter("x", "y", source=own["mean"], color=colour, size=8, marker=marker, line_color="white")
        chart.line("x", "y", source=own["focus"], line_width=4, **over)
        chart.scatter("x", "y", source=own["focus"], size="size", line_color="black", line_width=2, **over)
        sources[label] = {part: source.id for part, source in own.items()}
    title = f"{AXES[y]} by {AXES[x]}" if x != "local" else "local against global score"
    return Panel(title, x, y, dict(json_item(chart)), sources)


def _data(
    along: str, lines: Mapping[int, Sequence[Record]], mean: Mapping[str, Mapping[float, float]]
) -> dict[str, Any]:
    steps = sorted({line[along] for each in lines.values() for line in each})
    clients = []
    for seed, each in lines.items():
        by_client: dict[int, dict[float, Record]] = {}
        for line in each:
            by_client.setdefault(line["client"], {})[line[along]] = line
        for client, at in sorted(by_client.items()):
            numbers = {name: _rounded(at[step][name] if step in at else None for step in steps) for name in mean}
            clients.append({"seed": seed, "client": client, **numbers})
    means = {name: _rounded(values.get(step) for step in steps) for name, values in mean.items()}
    return {"along": along, "steps": steps, "clients": clients, "mean": means}


def _seed(run: Run) -> int:
    if "seed" not in run.config:
        raise InputError(f"{run.label}: config.json has no field 'seed'")
    return run.config["seed"]


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    """Numbers for JSON, which knows neither infinity nor NaN."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}") for value in values]
