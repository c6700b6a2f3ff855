"""Dealing: a client's steps to steps of the round, a step's texts to flights.

What is decided here changes no number, only how many positions are computed beside those that exist.
"""

from collections.abc import Sequence

import numpy as np

from profit_jax.data.packing import Block, Flight, Shape, Text

UNBOUNDED = 2**62
_LABELS = 128  # of a chunk, at least: fewer would leave a product of matrices without work
Content = list[list[list[Text]]]  # texts of each lane and step
Dealt = list[list[list[Flight]]]  # flights of each block and lane, of one step; as many in all lanes


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


def in_order(cell: Sequence[Text]) -> list[Text]:
    """Client by client, the longest first."""
    return sorted(cell, key=lambda text: (text.place, -text.length))


def deal_texts(shape: Shape, cells: Sequence[Sequence[Text]]) -> Dealt | None:
    """Deals all lanes' texts of one step to flights; None where the shape cannot hold them."""
    rest = [*map(in_order, cells)]
    below = [0, *(block.reach for block in shape[:-1])]
    dealt: Dealt = []
    for block, shorter in reversed([*zip(shape, below, strict=True)]):
        lanes, rest = deal_block(block, rest, shorter)
        if len(lanes[0]) > block.flights:
            return None
        dealt.insert(0, lanes)
    return dealt


def deal_block(block: Block, cells: Sequence[list[Text]], shorter: int) -> tuple[list[list[Flight]], list[list[Text]]]:
    """All lanes' flights of one block, however many it takes, and the texts that are left.

    The texts that are longer than `shorter` open flights, the longest first. All lanes compute as many, so others fill
    up what is left of them, and those that stand empty because another lane needs more, before they open flights of
    their own block.
    """
    lanes = [opened(block, [text for text in texts if text.length > shorter]) for texts in cells]
    most, rest = max(map(len, lanes)), []
    for lane, texts in zip(lanes, cells):
        lane += [Flight(block) for _ in range(most - len(lane))]
        short = (text for text in texts if text.length <= shorter)
        rest.append([text for text in short if not any(flight.take(text) for flight in lane)])
    return lanes, rest


def opened(block: Block, texts: Sequence[Text]) -> list[Flight]:
    """First fit: each text into the first flight that takes it, or into a new one."""
    flights: list[Flight] = []
    for text in texts:
        if not any(flight.take(text) for flight in flights):
            flights.append(Flight(block))
            flights[-1].take(text)  # a flight has as many rows as a text may reach over
    return flights


def rows_needed(texts: Sequence[Text], width: int, span: int) -> int:
    """Rows of a width that texts of one cell take together."""
    return sum(run.rows(width) for flight in opened(Block(width, span, 1, UNBOUNDED), texts) for run in flight.runs)


def deal_all(shape: Shape, steps: Sequence[Sequence[Sequence[Text]]]) -> list[Dealt] | None:
    """`deal_texts` of every step, or None where the shape cannot hold one of them."""
    if max((text.length for step in steps for cell in step for text in cell), default=0) > shape[-1].reach:
        return None
    dealt = []
    for cells in steps:
        if (one := deal_texts(shape, cells)) is None:
            return None
        dealt.append(one)
    return dealt


def computed(shape: Shape, dealt: Sequence[Dealt]) -> int:
    """Positions computed in one lane."""
    return sum(
        len(lanes[0]) * block.rows * block.width for step in dealt for block, lanes in zip(shape, step, strict=True)
    )


def room_for_labels(positions: int) -> tuple[int, int]:
    """Chunks of labels in a flight, and labels of a chunk: room for one at every position.

    A chunk's logits are in memory together, and only chunks in use are computed.

    >>> room_for_labels(2048), room_for_labels(50)
    ((16, 128), (1, 50))
    """
    size = min(positions, max(_LABELS, positions // 32))
    return -(-positions // size), size


def chunks_used(shape: Shape, dealt: Sequence[Dealt]) -> tuple[np.ndarray, ...]:
    """Of each block, the chunks of labels in use in its flights: `[S, Q]` int32, of the lane that has most.

    A flight in use has texts, and so labels; 0 is a flight that is not.
    """
    chunks = tuple(np.zeros((len(dealt), block.flights), np.int32) for block in shape)
    for number, block in enumerate(shape):
        _, size = room_for_labels(block.rows * block.width)
        for s, step in enumerate(dealt):
            for q, flights in enumerate(zip(*step[number])):
                chunks[number][s, q] = -(-max(flight.labels for flight in flights) // size)
    return chunks
