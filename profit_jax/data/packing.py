"""Packing whole examples into rows: every one in a row of its client, or in several that follow one another.

Real lengths decide the speed of a round. A row is short, and texts run on from one row into the next, so that
positions computed stay close to positions that exist.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
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


def needed(example: Encoded) -> int:
    """The positions of an example: the last target token is only asked for, never read, so it takes none."""
    return len(example.query) + len(example.target) - 1


class Block(NamedTuple):
    """Room for flights of a step, in rows of `width` positions of which a text takes at most `span` in a row."""

    width: int
    span: int
    flights: int
    rows: int  # of a flight

    @property
    def reach(self) -> int:
        """Positions of the longest text that there is room for."""
        return self.width * self.span


Shape = tuple[Block, ...]
"""A cohort's shape: a block for each kind of row in use, by the texts' reach."""


@dataclasses.dataclass
class Run:
    """Texts of one client one after another, from the start of a row on."""

    texts: list[Text] = dataclasses.field(default_factory=list)
    starts: list[int] = dataclasses.field(default_factory=list)  # of each text, counted from the run's first position
    end: int = 0

    def rows(self, width: int) -> int:
        """How many rows of this width it takes."""
        return -(-self.end // width)


class Flight:
    """Rows that are computed together, as they fill up.

    >>> flight = Flight(Block(width=8, span=2, flights=1, rows=3))
    >>> texts = [Text.of(0, 1.0, Encoded(np.zeros(n), np.zeros(1))) for n in (10, 5, 12, 6)]
    >>> [flight.take(text) for text in texts], [run.starts for run in flight.runs]
    ([True, True, False, True], [[0, 10, 15]])
    """

    def __init__(self, block: Block):
        self.free, self.width, self.reach = block.rows, block.width, block.reach
        self.runs: list[Run] = []
        self._of_place: dict[int, list[Run]] = {}

    def take(self, text: Text) -> bool:
        """Puts a text behind one of its client's, or at the start of a row, if there is room for it.

        It reaches over `span` rows at most, so a row that it would begin too far to the right stays unfinished.
        """
        for run in self._of_place.get(text.place, ()):
            begun, end = run.end % self.width, run.end + text.length
            if begun and begun + text.length <= self.reach:
                more = -(-end // self.width) - run.rows(self.width)
                if more <= self.free:
                    break
        else:
            run, more = Run(), -(-text.length // self.width)
            if more > self.free:
                return False
            self.runs.append(run)
            self._of_place.setdefault(text.place, []).append(run)
        run.texts.append(text)
        run.starts.append(run.end)
        run.end += text.length
        self.free -= more
        return True

    def placed(self) -> Iterator[tuple[Text, int]]:
        """Every text, and the flat position `r T + t` where it starts."""
        for run, row in zip(self.runs, self._first_rows()):
            yield from zip(run.texts, (row * self.width + start for start in run.starts))

    def places(self) -> list[int]:
        """Whose each row is."""
        return [run.texts[0].place for run in self.runs for _ in range(run.rows(self.width))]

    @property
    def labels(self) -> int:
        """Labelled positions."""
        return sum(len(text.example.target) for run in self.runs for text in run.texts)

    def _first_rows(self) -> list[int]:
        return [0, *itertools.accumulate(run.rows(self.width) for run in self.runs)][: len(self.runs)]


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
