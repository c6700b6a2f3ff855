"""The planner: every example once, whole, in rows of its own client, and few positions beside the real ones."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profit_jax import hosts
from profit_jax.data import cohort as cohort_module
from profit_jax.data.cohort import Layout, Plan, Planner
from profit_jax.data.dealing import deal_all, fitted
from profit_jax.data.encode import Encoded
from profit_jax.data.packing import Flight, Shape, Text, deal, ladder, round_up
from profit_jax.errors import InputError
from profit_jax.typing import Rows


def example(query: int, target: int, mark: int) -> Encoded:
    """Tokens that tell the example: query tokens are 2 * mark, target tokens 2 * mark + 1."""
    return Encoded(np.full(query, 2 * mark, np.int32), np.full(target, 2 * mark + 1, np.int32))


@st.composite
def cohorts(draw):
    """Clients, each with the same number of steps of zero to five examples; every example has its own mark."""
    steps = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.lists(st.integers(0, 5), min_size=steps, max_size=steps), min_size=1, max_size=5))
    mark = iter(range(1, 10**6))
    lengths = st.tuples(st.integers(1, 30), st.integers(1, 8))
    batches = [[[example(*draw(lengths), next(mark)) for _ in range(n)] for n in client] for client in sizes]
    if not any(step for client in batches for step in client):
        batches[0][0].append(example(4, 2, next(mark)))
    layout = Layout(
        row_width=draw(st.sampled_from([1, 5, 12, 16, 48])),
        positions_per_flight=draw(st.sampled_from([1, 64, 10_000])),
        lanes=draw(st.integers(1, 3)),
        slack=draw(st.sampled_from([0.0, 0.1, 1.0])),
    )
    return batches, layout


def flights(plan: Plan) -> Iterator[tuple[tuple[int, int, int], Rows, np.ndarray]]:
    """Every flight of every lane and step, and how many of its windows of each width are computed."""
    for at in np.ndindex(plan.cohort.batches.tokens.shape[:3]):
        yield at, jax.tree.map(lambda leaf, at=at: leaf[at], plan.cohort.batches), plan.cohort.used.windows[at[1:]]


def texts(rows: Rows) -> Iterator[tuple[int, int, int, int, int]]:
    """Of a flight's windows with a text: number and rows of its width, its first row, the text's rows and owner."""
    windows = rows.windows
    for kind, wide in enumerate(windows.widths):
        for first, own, owner in zip(windows.first[kind], windows.rows[kind], windows.owner[kind], strict=True):
            if own:
                yield kind, wide, int(first), int(own), int(owner)


@settings(max_examples=60)
@given(cohorts())
def test_every_example_stands_once_and_whole_in_rows_of_its_client_that_are_a_window(drawn):
    """In as few rows as it fits in, one after another, which are the first of a window."""
    batches, layout = drawn
    clients = list(range(10, 10 + len(batches)))
    plan = Planner(layout)(clients, batches.__getitem__)
    width, labels = layout.row_width, 0
    found: dict[tuple[int, int, int], tuple] = {}
    for (m, s, _), rows, _ in flights(plan):
        labels += int((rows.label_weight > 0).sum())
        for _, _, first, own, owner in texts(rows):
            taken = np.s_[first : first + own]
            assert rows.start[taken].tolist() == [width * number for number in range(own)]
            assert rows.client[taken].tolist() == [owner] * own
            tokens, at = rows.tokens[taken].reshape(-1), rows.label_at - first * width
            mine = (rows.label_weight > 0) & (at >= 0) & (at < own * width)
            key = (int(plan.cohort.client[m, owner]), s, int(tokens[0]) // 2)
            assert key not in found
            found[key] = (tokens, at[mine], rows.label_token[mine], rows.label_weight[mine])
    wanted = [
        (client, s, batch, one)
        for client, steps in zip(clients, batches)
        for s, batch in enumerate(steps)
        for one in batch
    ]
    assert len(found) == len(wanted) and labels == sum(len(target) for *_, (_, target) in wanted)
    for client, s, batch, (query, target) in wanted:
        tokens, asked, token, weight = found[client, s, int(query[0]) // 2]
        whole = np.concatenate([query, target[:-1]])
        np.testing.assert_array_equal(tokens, np.pad(whole, (0, -len(whole) % width)))
        np.testing.assert_array_equal(asked, len(query) - 1 + np.arange(len(target)))
        np.testing.assert_array_equal(token, target)
        np.testing.assert_allclose(weight, 1 / len(batch), rtol=1e-6)


@settings(max_examples=60)
@given(cohorts())
def test_a_text_has_rows_of_its_own_and_the_narrowest_window_over_them_and_rows_without_a_text_are_empty(drawn):
    batches, layout = drawn
    plan = Planner(layout)(range(len(batches)), batches.__getitem__)
    for _, rows, used in flights(plan):
        height, widths = rows.tokens.shape[0], rows.windows.widths
        assert widths == plan.shape.windows
        taken = np.zeros(height, int)
        for kind, wide, first, own, _ in texts(rows):
            assert own <= wide and (kind == 0 or own > widths[kind - 1])
            assert first + wide <= height, "a window lies within its flight"
            taken[first : first + own] += 1
        assert taken.max() <= 1
        empty = taken == 0
        assert not any(leaf[empty].any() for leaf in (rows.tokens, rows.start, rows.client))
        assert not empty[rows.label_at[rows.label_weight > 0] // layout.row_width].any()
        for room, together in zip(rows.windows.rows, rows.windows.together, strict=True):
            assert len(room) % together == 0, "the last windows that are worked on together would be too few"
        for count, *leaves in zip(used, rows.windows.rows, rows.windows.first, rows.windows.owner, strict=True):
            assert count <= len(leaves[0])
            assert not any(leaf[count:].any() for leaf in leaves), "windows beyond those in use would not be computed"
    most = np.max([[(of > 0).sum(-1) for of in plan.cohort.batches.windows.rows]], axis=2)[0]
    np.testing.assert_array_equal(np.moveaxis(most, 0, -1), plan.cohort.used.windows, "no more than some lane's")


@settings(max_examples=30)
@given(cohorts())
def test_positions_are_counted_as_they_are(drawn):
    batches, layout = drawn
    plan = Planner(layout)(range(len(batches)), batches.__getitem__)
    rows, chunks = plan.cohort.batches, plan.cohort.used.chunks
    _, steps, room, height, width = rows.tokens.shape
    assert (width, height, chunks.shape) == (plan.shape.width, plan.shape.rows, (steps, room))
    assert plan.computed_positions == layout.lanes * int((chunks > 0).sum()) * height * width
    assert plan.real_positions == int((rows.tokens > 0).sum())
    for step, flight in np.ndindex(chunks.shape):
        labels = rows.label_weight[:, step, flight]
        assert not labels[:, chunks[step, flight] :].any(), "labels beyond the chunks in use would not be computed"
        assert chunks[step, flight] == 0 or labels[:, chunks[step, flight] - 1].any(), "a chunk in use has labels"
        assert chunks[step, flight] > 0 or not rows.tokens[:, step, flight:].any(), "nor would rows beyond flights"
    longest = max(len(q) + len(t) - 1 for client in batches for batch in client for q, t in batch)
    assert height <= max(layout.positions_per_flight // width, ladder(-(-longest // width))[-1])


@st.composite
def dealings(draw):
    """Texts of each step and lane, some without any, and how they are to be laid out; every text has its own mark."""
    lanes, mark = draw(st.integers(1, 3)), iter(range(1, 10**6))
    lengths = st.lists(st.integers(1, 70), max_size=12)
    drawn = draw(st.lists(st.lists(lengths, min_size=lanes, max_size=lanes), min_size=1, max_size=3))
    drawn[0][0].append(draw(st.integers(1, 70)))
    steps = [[[Text.of(0, 1.0, example(n, 1, next(mark))) for n in cell] for cell in cells] for cells in drawn]
    rows, slack = st.sampled_from([1, 4, 7, 100]), st.sampled_from([0.0, 0.1, 1.0])
    return steps, draw(st.sampled_from([1, 5, 16])), draw(rows), draw(slack)


def marks(texts) -> list[int]:
    return sorted(int(text.example.query[0]) // 2 for text in texts)


def places(dealt) -> list:
    """Of each flight, in order: its texts' marks, first rows and rows."""
    flights = (flight for lanes in dealt for lane in lanes for flight in lane)
    return [[(*marks([each.text]), each.first, each.rows) for each in flight.places] for flight in flights]


@given(dealings())
def test_a_shape_holds_the_texts_that_it_was_made_of_and_is_no_larger_than_its_bound_or_the_longest_ones_window(drawn):
    steps, width, rows, slack = drawn
    shape, dealt = fitted(steps, width, rows, slack)
    longest = max(text.rows(width) for cells in steps for cell in cells for text in cell)
    assert shape.longest == ladder(longest)[-1] and shape.rows <= max(rows, shape.longest)
    assert places(deal_all(shape, steps) or ()) == places(dealt), "the shape's own bounds deal the same"
    assert len(dealt) == len(steps)
    for lanes, cells in zip(dealt, steps):
        assert len({len(flights) for flights in lanes}) == 1, "all lanes have as many flights"
        assert len(lanes[0]) <= shape.flights
        for flights, cell in zip(lanes, cells, strict=True):
            assert marks(place.text for flight in flights for place in flight.places) == marks(cell)


@given(dealings())
def test_texts_that_take_so_many_flights_are_not_dealt_to_fewer(drawn):
    steps, *layout = drawn
    shape, dealt = fitted(steps, *layout)
    flights = sum(len(lanes[0]) for lanes in dealt)
    assert deal_all(shape, steps, at_most=flights) is not None
    assert deal_all(shape, steps, at_most=flights - 1) is None
    if shape.longest > 1:
        assert deal_all(shape._replace(rows=shape.longest - 1), steps) is None
        assert deal_all(shape._replace(longest=shape.windows[-2]), steps) is None


@given(st.integers(1, 30), st.integers(1, 12), st.lists(st.integers(1, 90), max_size=20))
def test_a_flight_takes_texts_as_long_as_there_is_room_for_their_windows(rows, longest, lengths):
    flight, used, extent, labels = Flight(Shape(width=7, rows=rows, longest=ladder(longest)[-1], flights=1)), 0, 0, 0
    for number, length in enumerate(lengths):
        text = Text.of(0, 1.0, example(length, 1 + number % 2, 1))
        need = text.rows(7)
        wide = ladder(need)[-1]
        fits = wide <= ladder(longest)[-1] and used + wide <= rows
        assert flight.take(text) == fits
        if fits:
            place = flight.places[-1]
            assert (place.text, place.first, place.rows, flight.shape.windows[place.kind]) == (text, used, need, wide)
            used, extent, labels = used + need, max(extent, used + wide), labels + len(text.example.target)
        assert (flight.used, flight.extent, flight.labels) == (used, extent, labels)
    assert flight.windows == [sum(place.kind == kind for place in flight.places) for kind in range(len(flight.windows))]


@given(st.integers(1, 10**4))
def test_widths_of_windows_are_a_row_or_a_third_apart_up_to_the_first_that_holds_the_longest(longest):
    widths = ladder(longest)
    assert widths[-1] >= longest > ([0, *widths])[-2]
    assert all(wide - narrow == 1 or 1 < wide / narrow <= 4 / 3 for narrow, wide in itertools.pairwise(widths))


def test_examples_and_weights_say_who_takes_part():
    batches = [[[example(4, 2, 1), example(4, 2, 2)], []], [[example(4, 2, 3)], [example(4, 2, 4)]]]
    cohort = Planner(Layout(row_width=16))([7, 9], batches.__getitem__, weights=[2.0, 3.0]).cohort
    by_client = {
        int(c): (cohort.counts[0, :, p].tolist(), float(cohort.weight[0, p])) for p, c in enumerate(cohort.client[0])
    }
    assert by_client == {7: ([2.0, 0.0], 2.0), 9: ([1.0, 1.0], 3.0)}


def test_a_token_mean_weighs_every_target_token_alike():
    batches = [[[example(4, 1, 1), example(4, 3, 2)]]]
    cohort = Planner(Layout(row_width=16), reduction="token")([0], batches.__getitem__).cohort
    assert cohort.counts.tolist() == [[[4]]]
    weights = cohort.batches.label_weight
    np.testing.assert_allclose(weights[weights > 0], [0.25] * 4)


def test_of_each_width_as_many_windows_are_computed_as_the_lane_has_that_has_most():
    """Four texts of four rows in a lane, 16 of one row in the other."""
    batches = [[[example(60, 2, i) for i in range(1, 5)]], [[example(10, 2, i) for i in range(5, 21)]]]
    plan = Planner(Layout(row_width=16, lanes=2))([0, 1], batches.__getitem__)
    # 16 rows are a rung of 17; there is room for twice the flights in use.
    assert plan.shape == Shape(width=16, rows=17, longest=4, flights=2) and plan.shape.windows == (1, 2, 3, 4)
    assert plan.cohort.used.windows.tolist() == [[[16, 0, 0, 4], [0, 0, 0, 0]]]
    assert (plan.cohort.used.chunks > 0).tolist() == [[True, False]]


def test_flights_are_as_few_as_there_is_room_for_and_evenly_filled():
    """Six texts of three rows, at most ten rows a flight: two flights of nine rows, not one of nine beside ten."""
    batches = [[[example(20, 1, i) for i in range(1, 7)]]]
    plan = Planner(Layout(row_width=8, positions_per_flight=80, slack=0.0))([0], batches.__getitem__)
    assert plan.shape == Shape(width=8, rows=9, longest=3, flights=4)
    assert plan.computed_positions == 2 * 9 * 8


@pytest.mark.parametrize(("width", "rows"), [(5, 4), (8, 3), (16, 2), (20, 1), (64, 1)])
def test_a_text_leaves_less_than_a_row_of_positions_empty(width, rows):
    """16 texts of 20 positions: whole rows of 5 and of 20 leave none, those of 16 leave 12 of every 32."""
    batches = [[[example(20, 1, i) for i in range(1, 17)]]]
    plan = Planner(Layout(row_width=width, slack=0.0))([0], batches.__getitem__)
    assert (plan.computed_positions, plan.real_positions) == (16 * rows * width, 16 * 20)
    assert plan.waste == rows * width / 20


def test_a_client_with_few_steps_takes_them_when_the_others_have_fewest():
    """Three clients of 4, 2 and 2 steps: the two short ones share no step, and every client's steps stay in order."""
    lengths = {0: 4, 1: 2, 2: 2}
    batches = [[[example(10, 2, 10 * c + s + 1)] for s in range(steps)] for c, steps in lengths.items()]
    plan = Planner(Layout(row_width=16))([0, 1, 2], batches.__getitem__)
    rows = plan.cohort.batches
    taken = {client: [] for client in lengths}
    for step in range(4):
        for row, client in zip(rows.tokens[0, step, 0], rows.client[0, step, 0]):
            if row.any():
                taken[int(client)].append(int(row[0]) // 2)
    assert taken == {0: [1, 2, 3, 4], 1: [11, 12], 2: [21, 22]}
    assert plan.cohort.counts[0].sum(1).tolist() == [2, 2, 2, 2]


def test_an_example_may_be_longer_than_a_flight():
    """Its seven rows have a window of eight, and so has every flight."""
    batches = [[[example(100, 5, 1), *(example(10, 2, i) for i in range(2, 6))]]]
    plan = Planner(Layout(row_width=16, positions_per_flight=32, slack=0.0))([0], batches.__getitem__)
    assert (plan.shape.rows, plan.shape.longest) == (8, 8) and plan.real_positions == 104 + 4 * 11


@pytest.mark.parametrize(
    "fields",
    [
        {"lanes": 0},
        {"row_width": 0},
        {"slack": -0.1},
        {"positions_per_flight": -1},
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(fields):
    with pytest.raises(InputError):
        Layout(**fields)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(InputError, match="reduction"):
        Planner(Layout(), reduction="mean")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 6))
def test_dealing_fills_no_group_beyond_its_places(costs, groups):
    places = -(-len(costs) // groups)
    assert np.bincount(deal(costs, groups, places), minlength=groups).max() <= places


@given(st.integers(0, 10**6), st.sampled_from([1.1, 1.5, 2.0]))
def test_rounding_up_wastes_less_than_the_ladders_ratio(number, ratio):
    assert number <= round_up(number, ratio) <= max(number * ratio, 2 * (number > 0))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_shapes_seen_before_open_no_program_and_are_taken_where_they_cost_little_more_than_a_cohorts_own(seeds):
    layout = Layout(row_width=16, positions_per_flight=128, slack=0.2)
    planner = Planner(layout)

    def plan(planner: Planner, seed: int):
        draw = np.random.default_rng(seed)
        count = draw.integers(1, 20)
        batches = [[[example(*draw.integers(1, 40, 2), 1 + i) for i in range(count)]]]
        return planner([0], batches.__getitem__)

    def rows(plan) -> int:
        """Computed in a lane."""
        return int((plan.cohort.used.chunks > 0).sum()) * plan.shape.rows

    first = [plan(planner, seed) for seed in seeds]
    assert all(rows(each) <= 1.2 * rows(plan(Planner(layout), seed)) for each, seed in zip(first, seeds))
    programs = len(planner.shapes)
    assert programs <= len(seeds) and all(plan.shape in planner.shapes for plan in first)
    for seed in seeds:
        plan(planner, seed)
    assert len(planner.shapes) == programs


def test_each_process_reads_its_own_clients_and_all_plan_alike(monkeypatch):
    """Two processes of two lanes each, here in two threads, and one process of four lanes."""
    draw = np.random.default_rng(0)
    batches = [
        [[example(*draw.integers(1, 20, 2), 1 + i) for i in range(draw.integers(1, 5))] for _ in range(3)]
        for _ in range(7)
    ]
    layout, clients = Layout(row_width=16, lanes=4), [*range(10, 17)]
    said, come, process = [b"", b""], threading.Barrier(2), threading.local()

    def exchange(name: str, own: bytes) -> list[bytes]:
        said[process.index] = own
        come.wait(timeout=60)
        return [*said]

    monkeypatch.setattr(hosts, "exchange", exchange)
    monkeypatch.setattr(cohort_module.jax, "process_index", lambda: process.index)
    read: list[set[int]] = [set(), set()]

    def plan(index: int):
        process.index = index
        readers = hosts.Readers(((0, 1), (2, 3)), (0, 1), index)
        planner = Planner(layout, readers=readers)

        def batches_of(place: int):
            read[index].add(place)
            return batches[place]

        return planner(clients, batches_of)

    with ThreadPoolExecutor(2) as threads:
        plans = [*threads.map(plan, (0, 1))]
    assert not read[0] & read[1] and read[0] | read[1] == {*range(7)}
    whole = Planner(layout)(clients, batches.__getitem__)
    jax.tree.map(np.testing.assert_array_equal, *(each.cohort._replace(batches=None) for each in plans))
    assert plans[0].shape == plans[1].shape

    def labels(cohort, lanes: slice) -> dict[int, list[int]]:
        """Of each client, the label tokens in its rows."""
        found: dict[int, list[int]] = {}
        rows = cohort.batches
        for m, s, q, j, n in np.argwhere(rows.label_weight > 0):
            row = rows.label_at[m, s, q, j, n] // rows.tokens.shape[-1]
            client = cohort.client[lanes][m, rows.client[m, s, q, row]]
            found.setdefault(int(client), []).append(int(rows.label_token[m, s, q, j, n]))
        return {client: sorted(tokens) for client, tokens in found.items()}

    own = labels(plans[0].cohort, slice(0, 2)) | labels(plans[1].cohort, slice(2, 4))
    assert own == labels(whole.cohort, slice(0, 4))
