"""The cohort planner: clients and their batches of examples -> packed rows of one of a few shapes.

What the planner decides (lane, row, place in a row, flight) never changes a number; it only decides how many
positions are computed for each position that exists.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from profit_jax.data.encode import Encoded
from profit_jax.data.packing import Block, Shape, deal, pack, positions, round_up
from profit_jax.errors import InputError
from profit_jax.typing import Cohort, Rows

Batches = Sequence[Sequence[Encoded]]
"""A client's data of a round: examples of each local step; an empty step does not exist for the client."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How cohorts are laid out: none of these changes a result.

    `row_widths` ascend, the last must hold the longest example; `positions_per_flight` bounds the positions whose
    activations are in memory together; `lanes` is the size of the mesh axis `clients`; the ladder of
    shapes has steps of `1 + slack`: a finer one wastes fewer positions, a coarser one compiles fewer programs.
    """

    row_widths: tuple[int, ...] = (256, 1280)
    positions_per_flight: int = 16_384
    lanes: int = 1
    slack: float = 0.1

    def __post_init__(self):
        if not self.row_widths or list(self.row_widths) != sorted(set(self.row_widths)):
            raise InputError(f"row_widths must ascend, not {self.row_widths}")
        if self.positions_per_flight < 1 or self.lanes < 1 or self.slack < 0:
            raise InputError("positions_per_flight and lanes must be positive, slack not negative")


class Plan(NamedTuple):
    """A planned cohort and what it costs."""

    cohort: Cohort
    shape: Shape
    real_positions: int  # positions that exist: prompt rows, query and target tokens
    computed_positions: int  # positions in all rows of all lanes, steps and flights
    real_tokens: int  # query and target tokens

    @property
    def waste(self) -> float:
        """Positions computed per real position."""
        return self.computed_positions / self.real_positions


class Planner:
    """Plans cohorts for one run; keeps the shapes in use."""

    def __init__(self, layout: Layout, *, prompt_rows: int, reduction: Literal["example", "token"] = "example"):
        if reduction not in ("example", "token"):
            raise InputError(f"reduction must be 'example' (Profit Eq. 1) or 'token', not {reduction!r}")
        self.layout, self.prompt_rows, self.reduction = layout, prompt_rows, reduction
        self.shapes: list[Shape] = []  # in use so far; each is a compiled program

    def __call__(
        self, clients: Sequence[int], batches: Sequence[Batches], weights: Sequence[float] | None = None
    ) -> Plan:
        """Lays out the round of `clients`, each with its batches (one list of examples for each local step).

        `weights` are the clients' weights in the aggregate, 1 each by default.
        """
        lanes, steps = self.layout.lanes, max(map(len, batches))
        packed = [[self._pack(batch) for batch in client] for client in batches]
        costs = [sum(row.width for rows in client for row in rows) for client in packed]
        places = -(-len(clients) // lanes)
        lane_of = deal(costs, lanes, places)

        weight = np.zeros((lanes, places), np.float32)
        number = np.full((lanes, places), -1, np.int32)
        examples = np.zeros((lanes, steps, places), np.float32)
        content: list[list[list[_Packed]]] = [[[] for _ in range(steps)] for _ in range(lanes)]
        taken = [0] * lanes
        for i, client in enumerate(clients):
            lane, place = lane_of[i], taken[lane_of[i]]
            taken[lane] += 1
            weight[lane, place] = 1 if weights is None else weights[i]
            number[lane, place] = client
            for step, batch in enumerate(batches[i]):
                examples[lane, step, place] = len(batch)
                scale = 1 / max(1, len(batch) if self.reduction == "example" else sum(len(e.target) for e in batch))
                content[lane][step] += [
                    _Packed(row.width, place, scale, [batch[member] for member in row.members])
                    for row in packed[i][step]
                ]

        cells = [step for lane in content for step in lane]
        _even_out(cells, self.layout.row_widths)
        shape = self._shape(cells)
        blocks = tuple(_fill(block, content, self.prompt_rows) for block in shape)
        every = [example for client in batches for batch in client for example in batch]
        tokens = sum(len(example.query) + len(example.target) - 1 for example in every)
        return Plan(
            Cohort(blocks, examples, weight, number),
            shape,
            real_positions=tokens + self.prompt_rows * len(every),
            computed_positions=positions(shape) * lanes * steps,
            real_tokens=tokens,
        )

    def _pack(self, batch: Sequence[Encoded]):
        # The last target token is only asked for, never read, so it takes no position.
        lengths = [self.prompt_rows + len(query) + len(target) - 1 for query, target in batch]
        return pack(lengths, self.layout.row_widths)

    def _shape(self, cells: list[list["_Packed"]]) -> Shape:
        """The cohort's rung of the ladder: a shape in use that wastes little on it, or its own, rounded up.

        Rows and labels are rounded up on a geometric ladder, so that a run meets few shapes; labels get that much
        headroom more, because they are cheap and vary most.
        """
        ratio, own = 1 + self.layout.slack, []
        for width in sorted({row.width for cell in cells for row in cell}):
            most = round_up(max(sum(row.width == width for row in cell) for cell in cells), ratio)
            flights = -(-most // max(1, self.layout.positions_per_flight // width))
            rows = -(-most // flights)
            labels = round_up(math.ceil(ratio * _labels(cells, width, flights, rows)), ratio)
            own.append(Block(width, flights, rows, labels))
        close = [shape for shape in self.shapes if positions(shape) <= ratio * positions(own) and _holds(shape, cells)]
        if not close:
            self.shapes.append(tuple(own))
        return min(close, key=positions, default=tuple(own))


class _Packed(NamedTuple):
    """A row's content: its owner's place in the lane, the weight of its labels, its examples."""

    width: int
    place: int
    scale: float
    examples: list[Encoded]

    @property
    def labels(self) -> int:
        return sum(len(example.target) for example in self.examples)


def _even_out(cells: list[list[_Packed]], widths: Sequence[int]) -> None:
    """Merges narrow rows of a client into wide rows that stand empty in its cell.

    All cells (a lane's step each) have the same shape, so where one cell needs many wide rows, the others would
    compute as many empty ones beside their narrow rows.
    """
    for narrow, wide in reversed(list(itertools.pairwise(widths))):
        needed = max(sum(row.width == wide for row in cell) for cell in cells)
        for cell in cells:
            spare = needed - sum(row.width == wide for row in cell)
            by_place: dict[int, list[_Packed]] = {}
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


def _flights(rows: list[_Packed], flights: int, places: int) -> list[list[_Packed]]:
    """Deals a cell's rows of one width to flights, labels evenly."""
    flight_of = deal([row.labels for row in rows], flights, places)
    return [[row for row, f in zip(rows, flight_of) if f == flight] for flight in range(flights)]


def _labels(cells: list[list[_Packed]], width: int, flights: int, places: int) -> int:
    """The most labels that a flight of one width gets in any cell."""
    dealt = (_flights([row for row in cell if row.width == width], flights, places) for cell in cells)
    return max(sum(row.labels for row in flight) for cell in dealt for flight in cell)


def _holds(shape: Shape, cells: list[list[_Packed]]) -> bool:
    """Whether every cell's rows and labels find room in the shape."""
    blocks = {block.width: block for block in shape}
    for width in {row.width for cell in cells for row in cell}:
        most = max(sum(row.width == width for row in cell) for cell in cells)
        block = blocks.get(width, Block(width, 0, 0, 0))
        if most > block.flights * block.rows or _labels(cells, width, block.flights, block.rows) > block.labels:
            return False
    return True


def _fill(block: Block, content: list[list[list[_Packed]]], prompt_rows: int) -> Rows:
    """The block's arrays, `[M, S, Q, R, T]` and `[M, S, Q, N]`: one vectorized write for each array."""
    lead = (len(content), len(content[0]), block.flights)
    row_start, label_start = [], []  # of each example, in the flattened arrays
    segment, in_row, scales, examples = [], [], [], []
    client = np.zeros((*lead, block.rows), np.int32)
    for m, lane in enumerate(content):
        for s, cell in enumerate(lane):
            same = [row for row in cell if row.width == block.width]
            for q, flight in enumerate(_flights(same, block.flights, block.rows)):
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
                        offset += prompt_rows + len(example.query) + len(example.target) - 1
                        label += len(example.target)

    queries = np.array([len(example.query) for example in examples], np.int64)
    targets = np.array([len(example.target) for example in examples], np.int64)
    placeholder = np.zeros(prompt_rows, np.int32)
    position = _counting(prompt_rows + queries + targets - 1)
    where = np.repeat(np.array(row_start, np.int64), prompt_rows + queries + targets - 1) + position
    ordinal = _counting(targets)
    label_where = np.repeat(np.array(label_start, np.int64), targets) + ordinal
    # Label j is asked of the position that has read the query and j target tokens.
    asked = np.repeat(np.array(in_row, np.int64) + prompt_rows + queries - 1, targets) + ordinal

    def scattered(shape: tuple[int, ...], index: np.ndarray, values: np.ndarray, empty: int, kind: type) -> np.ndarray:
        flat = np.full(int(np.prod(shape)), empty, kind)
        flat[index] = values
        return flat.reshape(shape)

    rows, labels = (*lead, block.rows, block.width), (*lead, block.labels)
    none = np.zeros(0, np.int32)  # a block may be empty in a cohort that took a wider rung
    tokens = np.concatenate([none, *(part for query, target in examples for part in (placeholder, query, target[:-1]))])
    return Rows(
        tokens=scattered(rows, where, tokens, 0, np.int32),
        segments=scattered(
            rows, where, np.repeat(np.array(segment, np.int32), prompt_rows + queries + targets - 1), 0, np.int32
        ),
        positions=scattered(rows, where, position, 0, np.int32),
        slots=scattered(rows, where, np.where(position < prompt_rows, position, -1), -1, np.int32),
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
