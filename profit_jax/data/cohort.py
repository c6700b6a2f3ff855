"""The cohort planner: clients and their batches of examples -> packed rows of one of a few shapes.

What the planner decides (lane, row, place in a row, flight) never changes a number; it only decides how many
positions are computed for each position that exists.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from profit_jax import hosts
from profit_jax.data.dealing import (
    UNBOUNDED,
    Content,
    Dealt,
    PackedRow,
    deal_rows,
    deal_steps,
    even_out,
    flights_of,
    flights_used,
    positions,
)
from profit_jax.data.encode import Encoded
from profit_jax.data.packing import Block, Row, Shape, deal, pack, round_up
from profit_jax.errors import InputError
from profit_jax.typing import Cohort, Rows

Batches = Sequence[Sequence[Encoded]]
"""A client's data of a round: examples of each local step; an empty step does not exist for the client."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How cohorts are laid out: none of these changes a result.

    `row_widths` ascend, the last must hold the longest example; `positions_per_flight` bounds the positions whose
    activations are in memory together, 0 leaves it to a trial (`experiment.with_flights`); `lanes` is the size of the
    mesh axis `clients`; the ladder of shapes has steps of `1 + slack`: a finer one wastes fewer positions, a coarser
    one compiles fewer programs.
    """

    row_widths: tuple[int, ...] = (256, 1280)
    positions_per_flight: int = 16_384
    lanes: int = 1
    slack: float = 0.1

    def __post_init__(self) -> None:
        if not self.row_widths or list(self.row_widths) != sorted(set(self.row_widths)):
            raise InputError(f"row_widths must ascend, not {self.row_widths}")
        if self.positions_per_flight < 0 or self.lanes < 1 or self.slack < 0:
            raise InputError("positions_per_flight and slack must not be negative, lanes positive")


class Plan(NamedTuple):
    """A planned cohort and what it costs."""

    cohort: Cohort
    shape: Shape
    real_positions: int  # positions that exist: those of query and target tokens
    computed_positions: int  # positions in all rows of all lanes, steps and flights

    @property
    def waste(self) -> float:
        """Positions computed per real position."""
        return self.computed_positions / self.real_positions


class Planner:
    """Plans cohorts for one run; keeps the shapes in use.

    Of several processes each reads the clients of its own lanes. They tell each other how long the examples are, so
    that all come to the same plan, and each fills in the rows of its own lanes.
    """

    _planners = itertools.count()

    def __init__(
        self,
        layout: Layout,
        *,
        reduction: Literal["example", "token"] = "example",
        steps: int = 0,
        readers: hosts.Readers | None = None,
    ):
        if reduction not in ("example", "token"):
            raise InputError(f"reduction must be 'example' (Profit Eq. 1) or 'token', not {reduction!r}")
        if not layout.positions_per_flight:
            raise InputError("positions_per_flight = 0 is for a trial to choose: experiment.with_flights")
        self.layout, self.reduction = layout, reduction
        self.shapes: list[Shape] = []  # in use so far; each is a compiled program
        self._steps = steps  # room for so many local steps at least
        self._readers = readers or hosts.readers(None, layout.lanes)
        self._name = f"planner {next(self._planners)}"  # the same in all processes, which make the same planners

    def __call__(
        self, clients: Sequence[int], read: Callable[[int], Batches], weights: Sequence[float] | None = None
    ) -> Plan:
        """Lays out the round of `clients`.

        Args:
          clients: their numbers; -1 is an empty place.
          read: place in `clients` -> the batches of that client, one list of examples for each local step. Asked only
            of the clients that this process reads.
          weights: the clients' weights in the aggregate, 1 each by default.

        Returns:
          The plan; in its cohort, `batches` are those of the lanes that this process reads for.
        """
        lanes = self.layout.lanes
        reader_of_lane = {lane: reader for reader, own in enumerate(self._readers.lanes) for lane in own}
        reader = [reader_of_lane[i % lanes] for i in range(len(clients))]
        batches = self._read(reader, read)
        steps = self._steps = max(self._steps, *map(len, batches))
        packed = [[self._pack(batch) for batch in client] for client in batches]
        costs = [[sum(row.width for row in rows) for rows in client] for client in packed]
        places = -(-len(clients) // lanes)
        lane_of = [0] * len(clients)
        for number, own_lanes in enumerate(self._readers.lanes):
            own = [i for i in range(len(clients)) if reader[i] == number]
            for i, lane in zip(own, deal([sum(costs[i]) for i in own], len(own_lanes), places)):
                lane_of[i] = own_lanes[lane]
        step_of = deal_steps(costs, lane_of, max(map(len, batches)))

        weight = np.zeros((lanes, places), np.float32)
        number = np.full((lanes, places), -1, np.int32)
        counts = np.zeros((lanes, steps, places), np.float32)
        content: list[list[list[PackedRow]]] = [[[] for _ in range(steps)] for _ in range(lanes)]
        taken = [0] * lanes
        for i, client in enumerate(clients):
            lane, place = lane_of[i], taken[lane_of[i]]
            taken[lane] += 1
            weight[lane, place] = 1 if weights is None else weights[i]
            number[lane, place] = client
            for step, batch, rows in zip(step_of[i], batches[i], packed[i]):
                count = len(batch) if self.reduction == "example" else sum(len(example.target) for example in batch)
                counts[lane, step, place] = count
                content[lane][step] += [
                    PackedRow(row.width, place, 1 / max(1, count), [batch[member] for member in row.members])
                    for row in rows
                ]

        for same_step in zip(*content):
            even_out(same_step, self.layout.row_widths)
        shape = self._shape(content)
        dealt = deal_rows(shape, content)
        assert dealt is not None, "the shape was chosen so that it holds all rows"
        own_lanes = self._readers.lanes[self._readers.own]
        blocks = tuple(_fill(block, [part[lane] for lane in own_lanes]) for block, part in zip(shape, dealt))
        flights = flights_used(dealt)
        every = [example for client in batches for batch in client for example in batch]
        return Plan(
            Cohort(blocks, counts, flights, weight, number),
            shape,
            real_positions=sum(map(needed, every)),
            computed_positions=positions(shape, flights) * lanes,
        )

    def _read(self, reader: Sequence[int], read: Callable[[int], Batches]) -> list[Batches]:
        """All clients' batches, this process's own with their tokens, others with as many blanks."""
        own, speaker = self._readers.own, self._readers.speaker
        batches: list[Batches] = [read(i) if group == own else [] for i, group in enumerate(reader)]
        if len(speaker) == 1:
            return batches
        mine = [batches[i] for i, group in enumerate(reader) if group == own]
        said = hosts.exchange(self._name, lengths(mine) if jax.process_index() == speaker[own] else b"")
        for number, process in enumerate(speaker):
            if number != own:
                theirs = blanks(said[process])
                for i in (i for i, group in enumerate(reader) if group == number):
                    batches[i] = next(theirs)
        return batches

    def _pack(self, batch: Sequence[Encoded]) -> list[Row]:
        return pack([*map(needed, batch)], self.layout.row_widths)

    def _shape(self, content: Content) -> Shape:
        """The cohort's rung of the ladder: a shape in use that wastes little on it, or its own, rounded up.

        Rows and labels of a flight are rounded up on a geometric ladder, so that a run meets few shapes; labels get
        that much headroom more, because they are cheap and vary most. There is room for twice the flights, since only
        those in use are computed.
        """
        ratio, own = 1 + self.layout.slack, []
        cells = [cell for lane in content for cell in lane]
        for width in sorted({row.width for cell in cells for row in cell}):
            most = round_up(max(sum(row.width == width for row in cell) for cell in cells), ratio)
            flights = -(-most // max(1, self.layout.positions_per_flight // width))
            rows = -(-most // flights)
            free = Block(width, flights, rows, labels=UNBOUNDED)
            labels = max(sum(row.labels for row in flight) for cell in cells for flight in flights_of(cell, free) or ())
            own.append(Block(width, 2 * flights, rows, round_up(math.ceil(ratio * labels), ratio)))

        def cost(shape: Shape) -> float:
            dealt = deal_rows(shape, content)
            return math.inf if dealt is None else positions(shape, flights_used(dealt))

        limit = ratio * cost(tuple(own))
        close = [(paid, shape) for shape in self.shapes if (paid := cost(shape)) <= limit]
        if not close:
            self.shapes.append(tuple(own))
        return min(close, default=(limit, tuple(own)))[1]


def lengths(batches: Sequence[Batches]) -> bytes:
    """How many batches clients have, of how many examples, of how many tokens: what other processes need to know."""
    every = [batch for client in batches for batch in client]
    tokens = (len(part) for batch in every for example in batch for part in example)
    return np.array([len(batches), *map(len, batches), *map(len, every), *tokens], np.int32).tobytes()


def blanks(said: bytes) -> Iterator[Batches]:
    """Batches of examples as long as another process has said its own are; their tokens are all 0.

    >>> first, second = blanks(lengths([[[Encoded(np.ones(3), np.ones(2))], []], []]))
    >>> first, second
    ([[Encoded(query=array([0, 0, 0], dtype=int32), target=array([0, 0], dtype=int32))], []], [])
    """
    numbers = iter(np.frombuffer(said, np.int32).tolist())
    counts = [*itertools.islice(numbers, next(numbers))]
    sizes = iter([*itertools.islice(numbers, sum(counts))])

    def blank() -> Encoded:
        return Encoded(*(np.broadcast_to(np.int32(0), length) for length in itertools.islice(numbers, 2)))

    for count in counts:
        yield [[blank() for _ in range(size)] for size in itertools.islice(sizes, count)]


def needed(example: Encoded) -> int:
    """The positions of an example: the last target token is only asked for, never read, so it takes none."""
    return len(example.query) + len(example.target) - 1


def _fill(block: Block, dealt: Dealt) -> Rows:
    """The block's arrays, `[M, S, Q, R, T]` and `[M, S, Q, N]`: one vectorized write for each array."""
    lead = (len(dealt), len(dealt[0]), block.flights)
    row_start, label_start = [], []  # of each example, in the flattened arrays
    segment, in_row, scales, examples = [], [], [], []
    client = np.zeros((*lead, block.rows), np.int32)
    for m, lane in enumerate(dealt):
        for s, cell in enumerate(lane):
            for q, flight in enumerate(cell):
                group = (m * lead[1] + s) * lead[2] + q
                label = group * block.labels
                for r, row in enumerate(flight):
                    client[m, s, q, r] = row.place
                    offset = 0
                    for number, example in enumerate(row.examples):
                        row_start.append((group * block.rows + r) * block.width + offset)
                        in_row.append(r * block.width + offset)
                        label_start.append(label)
                        segment.append(number + 1)
                        scales.append(row.scale)
                        examples.append(example)
                        offset += needed(example)
                        label += len(example.target)

    queries = np.array([len(example.query) for example in examples], np.int64)
    targets = np.array([len(example.target) for example in examples], np.int64)
    position = _counting(queries + targets - 1)
    where = np.repeat(np.array(row_start, np.int64), queries + targets - 1) + position
    ordinal = _counting(targets)
    label_where = np.repeat(np.array(label_start, np.int64), targets) + ordinal
    # Label j is asked of the position that has read the query and j target tokens.
    asked = np.repeat(np.array(in_row, np.int64) + queries - 1, targets) + ordinal

    def scattered(shape: tuple[int, ...], index: np.ndarray, values: np.ndarray, empty: int, kind: type) -> np.ndarray:
        flat = np.full(int(np.prod(shape)), empty, kind)
        flat[index] = values
        return flat.reshape(shape)

    rows, labels = (*lead, block.rows, block.width), (*lead, block.labels)
    none = np.zeros(0, np.int32)  # a block may be empty in a cohort that took a wider rung
    tokens = np.concatenate([none, *(part for query, target in examples for part in (query, target[:-1]))])
    return Rows(
        tokens=scattered(rows, where, tokens, 0, np.int32),
        segments=scattered(rows, where, np.repeat(np.array(segment, np.int32), queries + targets - 1), 0, np.int32),
        positions=scattered(rows, where, position, 0, np.int32),
        client=client,
        label_at=scattered(labels, label_where, asked, 0, np.int32),
        label_token=scattered(
            labels, label_where, np.concatenate([none, *(example.target for example in examples)]), 0, np.int32
        ),
        label_weight=scattered(labels, label_where, np.repeat(np.array(scales, np.float32), targets), 0, np.float32),
    )


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … within each run: lengths [2, 3] -> [0, 1, 0, 1, 2]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
