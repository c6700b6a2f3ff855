"""One look for all figures: colours that colour-blind readers tell apart (Okabe and Ito), markers, sizes, fonts.

Figures are drawn without pyplot: no global state, no window, nothing to close.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
PANEL = (4.6, 3.6)  # inches, width and height
CHARACTERS = 15  # of legend text that fit in an inch

SETTINGS = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


class Labelled(Protocol):
    """What is drawn under a name."""

    @property
    def label(self) -> str:
        """Its name in the legend."""


def colour(index: int) -> str:
    """The colour of the run at a place in the list of runs."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """The marker of that run; colour and marker together repeat after 56 runs."""
    return MARKERS[index % len(MARKERS)]


@contextmanager
def look() -> Iterator[None]:
    """Applies the settings to everything drawn inside."""
    with mpl.rc_context(SETTINGS):
        yield


def panels(count: int = 1, size: tuple[float, float] = PANEL, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with panels of `size` inches side by side; call it inside `look`."""
    figure = Figure(figsize=(size[0] * count, size[1]))
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=sharey)[0])


def places(panels: Mapping[str, Sequence[Labelled]]) -> dict[str, int]:
    """Label -> its place, the same in every panel: for its colour and marker."""
    labels = dict.fromkeys(one.label for drawn in panels.values() for one in drawn)
    return {label: place for place, label in enumerate(labels)}


def legend(figure: Figure, axes: Iterable[Axes], columns: int = 3) -> None:
    """Puts one legend of all `axes` under the figure, where it covers no data, and makes the figure taller for it."""
    handles = {label: handle for each in axes for handle, label in zip(*each.get_legend_handles_labels(), strict=True)}
    width, height = figure.get_size_inches()
    fitting = int(width * CHARACTERS) // (max(map(len, handles)) + 7)
    columns = max(1, min(columns * len(figure.axes), fitting, len(handles)))
    figure.set_size_inches(width, height + 0.2 * -(-len(handles) // columns))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Writes `stem`.png and `stem`.pdf, over older ones; returns both paths."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    with look():
        for path in paths:
            figure.savefig(path)
    return paths
