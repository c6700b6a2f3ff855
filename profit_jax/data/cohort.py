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
from profit_jax.data.dealing import Content, Dealt, computed, deal_all, deal_steps, fitted, in_use, room_for_labels
from profit_jax.data.encode import Encoded
from profit_jax.data.packing import Flight, Shape, Text, deal, needed
from profit_jax.errors import InputError
from profit_jax.typing import Cohort, Rows, Windows

Batches = Sequence[Sequence[Encoded]]
"""A client's data of a round: examples of each local step; an empty step does not exist for the client."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How cohorts are laid out: none of these changes a result.

    A text takes whole rows of `row_width` positions: narrow ones leave fewer positions empty. `positions_per_flight`
    bounds the positions whose activations are in memory together, beyond those of the longest text; 0 leaves it to a
    trial (`experiment.with_flights`). `lanes` is the size of the mesh axis `clients`; the ladder of shapes has steps of
    `1 + slack`: a finer one wastes fewer positions, a coarser one compiles fewer programs.
    """

    row_width: int = 16
    positions_per_flight: int = 16_384
    lanes: int = 1
    slack: float = 0.1

    def __post_init__(self) -> None:
        if self.positions_per_flight < 0 or self.row_width < 1 or self.lanes < 1 or self.slack < 0:
            raise InputError("positions_per_flight and slack must not be negative, row_width and lanes positive")


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
        costs = [[sum(map(needed, batch)) for batch in client] for client in batches]
        most = max((needed(example) for client in batches for batch in client for example in batch), default=0)
        if not most:
            raise InputError(f"the clients {[*clients]} of a round have no examples")
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
        content: Content = [[[] for _ in range(steps)] for _ in range(lanes)]
        taken = [0] * lanes
        for i, client in enumerate(clients):
            lane, place = lane_of[i], taken[lane_of[i]]
            taken[lane] += 1
            weight[lane, place] = 1 if weights is None else weights[i]
            number[lane, place] = client
            for step, batch in zip(step_of[i], batches[i]):
                count = len(batch) if self.reduction == "example" else sum(len(example.target) for example in batch)
                counts[lane, step, place] = count
                content[lane][step] += [Text.of(place, 1 / max(1, count), example) for example in batch]

        shape, dealt = self._shape([*zip(*content)])
        own_lanes = self._readers.lanes[self._readers.own]
        rows = _fill(shape, [[lanes[lane] for lanes in dealt] for lane in own_lanes])
        return Plan(
            Cohort(rows, counts, in_use(shape, dealt), weight, number),
            shape,
            real_positions=sum(map(sum, costs)),
            computed_positions=computed(shape, dealt) * lanes,
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

    def _shape(self, steps: Sequence[Sequence[Sequence[Text]]]) -> tuple[Shape, list[Dealt]]:
        """The cohort's shape, and its texts dealt to it: one in use that wastes little, or its own."""
        layout = self.layout
        rows = max(1, layout.positions_per_flight // layout.row_width)
        shape, dealt = fitted(steps, layout.row_width, rows, layout.slack)
        least, found = computed(shape, dealt), []
        for each in self.shapes:
            at_most = (1 + layout.slack) * least / (each.rows * each.width)
            if (again := deal_all(each, steps, at_most)) is not None:
                found.append((computed(each, again), each, again))
        if found:
            _, shape, dealt = min(found, key=lambda one: one[0])
        else:
            self.shapes.append(shape)
        return shape, dealt


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


def _fill(shape: Shape, dealt: Sequence[Sequence[Sequence[Flight]]]) -> Rows:
    """The arrays, `[M, S, Q, R, T]` and so on: one vectorized write for each array."""
    lead, positions = (len(dealt), len(dealt[0]), shape.flights), shape.rows * shape.width
    labels = room_for_labels(positions)
    row_start, label_start = [], []  # of each text, in the flattened arrays
    in_flight, texts = [], []
    client, start = (np.zeros((*lead, shape.rows), np.int32) for _ in range(2))
    # A text is longer than the next narrower window, so a flight has at most so many in windows of a width.
    most = (shape.rows // (narrower + 1) for narrower in (0, *shape.windows[:-1]))
    room = [-(-max(1, number) // each) * each for number, each in zip(most, shape.together)]
    windows = [np.zeros((len(room), *lead, max(room)), np.int32) for _ in range(3)]  # first rows, rows, owners
    for m, s in np.ndindex(*lead[:2]):
        for q, flight in enumerate(dealt[m][s]):
            group, label, number = (m * lead[1] + s) * lead[2] + q, 0, [0] * len(room)
            for text, row, rows, kind in flight.places:
                taken, at = np.s_[m, s, q, row : row + rows], (kind, m, s, q, number[kind])
                client[taken], start[taken] = text.place, np.arange(rows) * shape.width
                for leaf, value in zip(windows, (row, rows, text.place)):
                    leaf[at] = value
                number[kind] += 1
                row_start.append(group * positions + row * shape.width)
                label_start.append(group * math.prod(labels) + label)
                in_flight.append(row * shape.width)
                texts.append(text)
                label += len(text.example.target)

    queries = np.array([len(text.example.query) for text in texts], np.int64)
    targets = np.array([len(text.example.target) for text in texts], np.int64)
    position = _counting(queries + targets - 1)
    where = np.repeat(np.array(row_start, np.int64), queries + targets - 1) + position
    ordinal = _counting(targets)
    label_where = np.repeat(np.array(label_start, np.int64), targets) + ordinal
    # Label j is asked of the position that has read the query and j target tokens.
    asked = np.repeat(np.array(in_flight, np.int64) + queries - 1, targets) + ordinal

    def scattered(shape: tuple[int, ...], index: np.ndarray, values: np.ndarray, kind: type) -> np.ndarray:
        flat = np.zeros(math.prod(shape), kind)
        flat[index] = values
        return flat.reshape(shape)

    of_labels = (*lead, *labels)
    tokens = np.concatenate([part for _, _, (query, target), _ in texts for part in (query, target[:-1])])
    asked_for = np.concatenate([text.example.target for text in texts])
    scales = np.repeat(np.array([text.scale for text in texts], np.float32), targets)
    first, of_text, owner = (tuple(of[..., :most] for of, most in zip(leaf, room)) for leaf in windows)
    return Rows(
        tokens=scattered((*lead, shape.rows, shape.width), where, tokens, np.int32),
        start=start,
        client=client,
        windows=Windows(first, of_text, owner, shape.windows, shape.together),
        label_at=scattered(of_labels, label_where, asked, np.int32),
        label_token=scattered(of_labels, label_where, asked_for, np.int32),
        label_weight=scattered(of_labels, label_where, scales, np.float32),
    )


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … within each run: lengths [2, 3] -> [0, 1, 0, 1, 2]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
