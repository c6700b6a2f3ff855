"""Packing whole examples into rows, and the short ladder of shapes that rows come in.

Real lengths decide the speed of a round: a row holds as many whole examples of one client as fit, so that positions
computed stay close to positions that exist.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from profit_jax.errors import InputError


class Row(NamedTuple):
    """One packed row: its width and the examples in it, by their number in the list that was packed."""

    width: int
    members: list[int]


def pack(lengths: Sequence[int], widths: Sequence[int]) -> list[Row]:
    """First fit, longest first: each example goes into the first row with room, or opens one of the least width.

    `widths` ascend; an example longer than the last is an error.

    >>> pack([5, 2, 3, 9], widths=[8, 16])
    [Row(width=16, members=[3, 0, 1]), Row(width=8, members=[2])]
    """
    rows: list[Row] = []
    room: list[int] = []
    for example in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[example]
        for number, free in enumerate(room):
            if length <= free:
                rows[number].members.append(example)
                room[number] -= length
                break
        else:
            width = next((width for width in widths if width >= length), None)
            if width is None:
                raise InputError(f"an example takes {length} positions, more than the widest row, {widths[-1]}")
            rows.append(Row(width, [example]))
            room.append(width - length)
    return rows


def round_up(number: int, ratio: float) -> int:
    """The next number on a ladder whose rungs are `ratio` apart: the whole parts of its powers. Ratio 1 rounds nothing.

    >>> [round_up(n, 1.5) for n in (0, 1, 2, 3, 4, 5, 6, 100)]
    [0, 1, 2, 3, 5, 5, 7, 129]
    """
    power = 1.0
    while power < number and ratio > 1:
        power *= ratio
    return max(number, int(power)) if number else 0


class Block(NamedTuple):
    """Room for the rows of one width in a step: flights, and rows and labels of a flight."""

    width: int
    flights: int
    rows: int
    labels: int


Shape = tuple[Block, ...]
"""A cohort's shape: a block for each row width in use, widths ascending."""


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
