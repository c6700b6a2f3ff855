"""Dealing: a client's steps to steps of the round, a step's texts to flights.

What is decided here changes no number, only how many positions are computed beside those that exist.
"""

import heapq
import math
from collections.abc import Sequence

import numpy as np

from profit_jax.data.packing import Flight, Shape, Text, ladder, round_up
from profit_jax.typing import Used

UNBOUNDED = 2**62
_LABELS = 128  # of a chunk, at least: fewer would leave a product of matrices without work
Content = list[list[list[Text]]]  # texts of each lane and step
Dealt = list[list[Flight]]  # flights of each lane, of one step; as many in all lanes


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


def fitted(steps: Sequence[Sequence[Sequence[Text]]], width: int, rows: int, slack: float) -> tuple[Shape, list[Dealt]]:
    """The shape that cohorts like this one take, and its texts dealt: to as few flights as `rows` rows allow, evenly.

    Rows are rounded up on a ladder, so that a run meets few shapes.
    """
    longest = ladder(max(text.rows(width) for cells in steps for cell in cells for text in cell))[-1]
    most = max(rows, longest)
    dealt = deal_all(Shape(width, most, longest, flights=UNBOUNDED), steps)
    assert dealt is not None, "flights without end, each with room for the longest text, hold all of them"
    needed = max(flight.extent for lanes in dealt for lane in lanes for flight in lane)
    flights = 2 * max(len(lanes[0]) for lanes in dealt)
    return Shape(width, min(most, round_up(needed, 1 + slack)), longest, flights), dealt


def deal_all(shape: Shape, steps: Sequence[Sequence[Sequence[Text]]], at_most: float = math.inf) -> list[Dealt] | None:
    """Deals all lanes' texts of every step to flights; None where the shape, or `at_most` flights, cannot hold them."""
    if max(text.rows(shape.width) for cells in steps for cell in cells for text in cell) > shape.longest:
        return None
    dealt: list[Dealt] = []
    for cells in steps:
        rows = max(sum(text.rows(shape.width) for text in cell) for cell in cells)
        enough = min(shape.flights, at_most, max(map(len, cells)))  # a text needs no more than a flight of its own
        for flights in range(-(-rows // shape.rows), 1 + int(enough)):
            lanes = [deal_texts(shape, cell, flights) for cell in cells]
            if None not in lanes:
                break
        else:
            return None
        at_most -= flights
        dealt.append([lane for lane in lanes if lane is not None])
    return dealt


def deal_texts(shape: Shape, cell: Sequence[Text], flights: int) -> list[Flight] | None:
    """Deals texts to so many flights, the longest first, each to the emptiest; None where there is no room in it."""
    made = [Flight(shape) for _ in range(flights)]
    queue = [(0, number) for number in range(flights)]
    for text in sorted(cell, key=lambda text: -text.length):
        number = queue[0][1] if queue else -1
        if not queue or not made[number].take(text):
            return None
        heapq.heapreplace(queue, (made[number].used, number))
    return made


def computed(shape: Shape, dealt: Sequence[Dealt]) -> int:
    """Positions computed in one lane."""
    return sum(len(lanes[0]) for lanes in dealt) * shape.rows * shape.width


def room_for_labels(positions: int) -> tuple[int, int]:
    """Chunks of labels in a flight, and labels of a chunk: room for one at every position.

    A chunk's logits are in memory together, and only chunks in use are computed.

    >>> room_for_labels(2048), room_for_labels(50)
    ((16, 128), (1, 50))
    """
    size = min(positions, max(_LABELS, positions // 32))
    return -(-positions // size), size


def in_use(shape: Shape, dealt: Sequence[Dealt]) -> Used:
    """What is computed of every flight: of the lane that has most.

    A flight in use has texts, and so labels; 0 chunks are those of a flight that is not.
    """
    chunks = np.zeros((len(dealt), shape.flights), np.int32)
    windows = np.zeros((len(dealt), shape.flights, len(shape.windows)), np.int32)
    _, size = room_for_labels(shape.rows * shape.width)
    for s, lanes in enumerate(dealt):
        for q, flights in enumerate(zip(*lanes)):
            chunks[s, q] = -(-max(flight.labels for flight in flights) // size)
            windows[s, q] = np.max([flight.windows for flight in flights], axis=0)
    return Used(chunks, windows)
