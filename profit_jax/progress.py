"""How far long work has come, told on stderr: a bar on a terminal or in a notebook, lines in a log file.

A notebook's bar needs `ipywidgets`; without them it gets the lines.
"""

import math
import sys
from typing import Any, Self

from tqdm.auto import tqdm as BarHere  # a notebook's in a notebook
from tqdm.notebook import tqdm as NotebookBar
from tqdm.std import tqdm as TerminalBar

LINES = 20  # of a log file, about
SECONDS = 10.0  # between two of them at least, but for the last

_NUMBERS = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_LONG = 100_000  # totals from here on are shortened, 1.2M


class Progress:
    """A context manager around long work.

    Args:
      what: the work, as in "train".
      total: how much there is to do.
      unit: of what, in the plural; the rate is in units a second.
      show: whether to tell anything; of a job of several processes one does.

    >>> with Progress("train", total=24, unit="clients", show=False) as progress:
    ...     progress.resume(8)  # done before, which the rate does not count
    ...     progress.advance(8, round="2/3", loss="0.693")
    """

    def __init__(self, what: str, total: int, unit: str, *, show: bool = True):
        drawn = issubclass(BarHere, NotebookBar) or sys.stderr.isatty()
        shared = {"desc": what, "unit": f" {unit}", "unit_scale": total >= _LONG}
        self._bar = (BarHere if drawn else _Lines)(
            total=total,
            disable=not (show and total),
            bar_format=f"{{desc}}: {{percentage:3.0f}}%|{{bar}}| {_NUMBERS}" if drawn else f"{{desc}}: {_NUMBERS}",
            **shared,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def resume(self, done: int) -> None:
        """Says, before anything is done, how much of the total has been done by an earlier process."""
        self._bar.initial = self._bar.n = self._bar.last_print_n = done

    def advance(self, count: int = 1, **values: Any) -> None:
        """Says that `count` more are done, and what there is to tell beside, such as a loss."""
        if values and not self._bar.disable:
            self._bar.set_postfix(values, refresh=False)
        self._bar.update(count)

    def say(self, line: str) -> None:
        """Prints a line on stdout, above a bar."""
        self._bar.write(line)


class _Lines(TerminalBar):
    """A line now and then, each whole: a carriage return would run them together in a file."""

    def __init__(self, *, total: int, **settings: Any):
        # The first line comes after SECONDS, however little is done. `delay` leaves out that of the start, an infinite
        # `maxinterval` those that tqdm's monitor would add.
        pace = {"miniters": 1, "mininterval": SECONDS, "maxinterval": math.inf, "delay": 1e-9}
        super().__init__(total=total, leave=False, **pace, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # pyrefly: ignore[bad-override]  stub
        """Writes the line; tqdm's messages for clearing a bar have nothing to clear."""
        del pos
        if msg is None:
            self.miniters = -(-self.total // LINES)
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return False

    def update(self, n: float | None = 1) -> bool | None:
        """Counts; the last line comes at once."""
        shown = super().update(n)
        if not self.disable and not shown and self.n >= self.total:
            self.refresh()
        return shown
