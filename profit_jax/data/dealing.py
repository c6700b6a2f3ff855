"""Dealing packed rows: a client's steps to steps of the round, a step's rows to flights.

What is decided here changes no number, only how many positions are computed beside those that exist.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from profit_jax.data.encode import Encoded
from profit_jax.data.packing import Block, Shape, deal


class PackedRow(NamedTuple):
    """A row's content: its owner's place in the lane, the weight of its labels, its examples."""

    width: int
    place: int
    scale: float
    examples: list[Encoded]

    @property
    def labels(self) -> int:
        """Labelled positions."""
        return sum(len(example.target) for example in self.examples)


def even_out(cells: Sequence[list[PackedRow]], widths: Sequence[int]) -> None:
    """Merges narrow rows of a client into wide rows that would stand empty in its cell.

    The cells are all lanes' rows of one step. All lanes compute as many flights, so where one needs many wide rows, the
    others would compute as many empty ones beside their narrow rows.
    """
    for narrow, wide in reversed(list(itertools.pairwise(widths))):
        needed = max(sum(row.width == wide for row in cell) for cell in cells)
        for cell in cells:
            spare = needed - sum(row.width == wide for row in cell)
            by_place: dict[int, list[PackedRow]] = {}
            for row in cell:
                if row.width == narrow:
                    by_place.setdefault(row.place, []).append(row)
            size = wide // narrow
            groups = [rows[i : i + size] for rows in by_place.values() for i in range(0, len(rows), size)]
            merged = sorted((group for group in groups if len(group) > 1), key=len, reverse=True)[:spare]
            gone = {id(row) for group in merged for row in group}
            cell[:] = [row for row in cell if id(row) not in gone]
            for group in merged:
                examples = [example for row in group for example in row.examples]
                cell.append(group[0]._replace(width=wide, examples=examples))


Content = list[list[list[PackedRow]]]  # rows of each lane and step
Dealt = list[list[list[list[PackedRow]]]]  # rows of each lane, step and flight, all of one width
UNBOUNDED = 2**62


def deal_steps(costs: Sequence[Sequence[int]], lane_of: Sequence[int], steps: int) -> list[np.ndarray]:
    """The step of the round in which each client takes each of its own: in order, and the load even in every lane.

    No step of one client waits for another client's, so who has few steps may take them at any time.
    """
    load = np.zeros((max(lane_of) + 1, steps))
    step_of: list[np.ndarray] = [np.zeros(0, int)] * len(costs)
    for client in sorted(range(len(costs)), key=lambda i: -len(costs[i])):
        lane, own = load[lane_of[client]], costs[client]
        step_of[client] = np.sort(np.argsort(lane, kind="stable")[: len(own)])
        lane[step_of[client]] += own
    return step_of


def flights_of(cell: list[PackedRow], block: Block) -> list[list[PackedRow]] | None:
    """Deals a cell's rows of the block's width to as few flights as hold them, labels evenly; None if none do."""
    rows = [row for row in cell if row.width == block.width]
    for flights in range(-(-len(rows) // max(1, block.rows)), block.flights + 1):
        flight_of = deal([row.labels for row in rows], flights, block.rows)
        dealt = [[row for row, f in zip(rows, flight_of) if f == flight] for flight in range(flights)]
        if all(sum(row.labels for row in flight) <= block.labels for flight in dealt):
            return dealt
    return None


def deal_rows(shape: Shape, content: Content) -> list[Dealt] | None:
    """Every block's rows by lane, step and flight, or None where the shape cannot hold them."""
    widths = {row.width for lane in content for cell in lane for row in cell}
    if not widths <= {block.width for block in shape}:
        return None
    dealt: list[Any] = [[[flights_of(cell, block) for cell in lane] for lane in content] for block in shape]
    return None if any(cell is None for block in dealt for lane in block for cell in lane) else dealt


def flights_used(dealt: Sequence[Dealt]) -> np.ndarray:
    """Flights in use, `[S, blocks]` int32: as many as the lane with the most needs."""
    return np.array([[max(map(len, cells)) for cells in zip(*block)] for block in dealt], np.int32).T


def positions(shape: Shape, flights: np.ndarray) -> int:
    """Positions computed in one lane."""
    return int(flights.sum(0) @ [block.rows * block.width for block in shape])
