"""Packing whole examples into rows: each takes whole rows, one after another, and has a window over them.

Real lengths decide the speed of a round. A row is short, so that positions computed stay close to positions that exist,
and attention, which alone needs a text's positions side by side, is computed in windows about as wide as the texts.
"""

import bisect
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from profit_jax.data.encode import Encoded


class Text(NamedTuple):
    """An example to be packed: its owner's place in the lane, the weight of its labels, its tokens and positions."""

    place: int
    scale: float
    example: Encoded
    length: int

    @classmethod
    def of(cls, place: int, scale: float, example: Encoded) -> "Text":
        """With its length."""
        return cls(place, scale, example, needed(example))

    def rows(self, width: int) -> int:
        """How many rows of this width it takes."""
        return -(-self.length // width)


def needed(example: Encoded) -> int:
    """The positions of an example: the last target token is only asked for, never read, so it takes none."""
    return len(example.query) + len(example.target) - 1


class Shape(NamedTuple):
    """A cohort's shape: room for flights of a step, each of `rows` rows of `width` positions.

    `longest` are the rows of the widest window that there is, a rung of their ladder.
    """

    width: int
    rows: int
    longest: int
    flights: int

    @property
    def windows(self) -> tuple[int, ...]:
        """Widths of windows, in rows: all of the ladder up to the longest."""
        return ladder(self.longest)

    @property
    def together(self) -> tuple[int, ...]:
        """Windows of each width that attention works on together: about a sixteenth of a flight, in whole windows."""
        return tuple(max(1, self.rows // 16 // wide) for wide in self.windows)


@functools.cache
def ladder(longest: int) -> tuple[int, ...]:
    """Widths of windows: of neighbours that are not one row apart the wider has at most 4/3 of the rows.

    >>> ladder(30)
    (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 29, 38)
    """
    widths = [1]
    while widths[-1] < longest:
        widths.append(max(widths[-1] + 1, widths[-1] * 4 // 3))
    return tuple(widths)


class Place(NamedTuple):
    """Where a text stands in a flight: its rows, from the first on, and the number of its window's width."""

    text: Text
    first: int
    rows: int
    kind: int


class Flight:
    """Rows that are computed together, as they fill up.

    >>> flight = Flight(Shape(width=8, rows=6, longest=3, flights=1))
    >>> texts = [Text.of(0, 1.0, Encoded(np.zeros(n), np.zeros(1))) for n in (20, 10, 12, 6)]
    >>> [flight.take(text) for text in texts], [place.first for place in flight.places]
    ([True, True, False, True], [0, 3, 5])
    """

    def __init__(self, shape: Shape):
        self.shape, self.used, self.labels = shape, 0, 0
        self.extent = 0  # rows that its windows take, the last of which may look beyond those in use
        self.places: list[Place] = []
        self.windows = [0] * len(shape.windows)  # texts in windows of each width

    def take(self, text: Text) -> bool:
        """Gives a text the next rows, if there is room for its window, the narrowest that holds it."""
        rows, widths = text.rows(self.shape.width), self.shape.windows
        kind = bisect.bisect_left(widths, rows)
        if kind == len(widths) or self.used + widths[kind] > self.shape.rows:
            return False
        self.places.append(Place(text, self.used, rows, kind))
        self.windows[kind] += 1
        self.used += rows
        self.labels += len(text.example.target)
        self.extent = max(self.extent, self.used - rows + widths[kind])
        return True


def round_up(number: int, ratio: float) -> int:
    """The next number on a ladder whose rungs are `ratio` apart: the whole parts of its powers. Ratio 1 rounds nothing.

    >>> [round_up(n, 1.5) for n in (0, 1, 2, 3, 4, 5, 6, 100)]
    [0, 1, 2, 3, 5, 5, 7, 129]
    """
    power = 1.0
    while power < number and ratio > 1:
        power *= ratio
    return max(number, int(power)) if number else 0


def deal(costs: Sequence[int], groups: int, places: int) -> np.ndarray:
    """Deals items to `groups` of at most `places`, the costliest first to the lightest group; `[n]` group numbers.

    >>> deal([5, 1, 4, 2], groups=2, places=2).tolist()
    [0, 0, 1, 1]
    """
    load, free = np.zeros(groups), np.full(groups, places)
    group_of = np.zeros(len(costs), np.int64)
    for item in sorted(range(len(costs)), key=lambda i: -costs[i]):
        group = int(np.argmin(np.where(free > 0, load, np.inf)))
        group_of[item] = group
        load[group] += costs[item]
        free[group] -= 1
    return group_of
