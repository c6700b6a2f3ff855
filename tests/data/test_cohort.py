"""The planner: every example once, whole, in rows of its own client, and few positions beside the real ones."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profit_jax import hosts
from profit_jax.data import cohort as cohort_module
from profit_jax.data.cohort import Layout, Planner
from profit_jax.data.encode import Encoded
from profit_jax.data.packing import deal, round_up
from profit_jax.errors import InputError


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
    kinds = [((48, 1),), ((16, 1), (16, 3)), ((12, 1), (12, 2), (12, 4)), ((5, 3), (5, 8)), ((12, 1), (7, 3), (40, 1))]
    layout = Layout(
        row_kinds=draw(st.sampled_from(kinds)),
        positions_per_flight=draw(st.sampled_from([1, 64, 10_000])),
        lanes=draw(st.integers(1, 3)),
    )
    return batches, layout


@settings(max_examples=60)
@given(cohorts())
def test_every_example_stands_once_and_whole_in_rows_of_its_client_within_the_span(drawn):
    batches, layout = drawn
    clients = list(range(10, 10 + len(batches)))
    plan = Planner(layout)(clients, batches.__getitem__)
    found: dict[tuple[int, int, int], tuple] = {}
    for block in plan.cohort.batches:
        lanes, steps, flights, _, width = block.tokens.shape
        for m, s, q in np.ndindex(lanes, steps, flights):
            segments, positions, all_tokens = (
                leaf[m, s, q].reshape(-1) for leaf in (block.segments, block.positions, block.tokens)
            )
            for segment in set(segments.tolist()) - {0}:
                at = np.flatnonzero(segments == segment)
                rows = np.unique(at // width)
                assert rows[-1] - rows[0] < block.span
                (owner,) = {int(place) for place in block.client[m, s, q, rows]}
                assert (np.diff(at) == 1).all() and (positions[at] == np.arange(len(at))).all()
                tokens = all_tokens[at]
                mine = (block.label_weight[m, s, q] > 0) & np.isin(block.label_at[m, s, q], at)
                asked = block.label_at[m, s, q][mine] - at[0]
                key = (int(plan.cohort.client[m, owner]), s, int(tokens[0]) // 2)
                assert key not in found
                found[key] = (tokens, asked, block.label_token[m, s, q][mine], block.label_weight[m, s, q][mine])
    wanted = [
        (client, s, batch, one)
        for client, steps in zip(clients, batches)
        for s, batch in enumerate(steps)
        for one in batch
    ]
    assert len(found) == len(wanted)
    for client, s, batch, (query, target) in wanted:
        tokens, asked, token, weight = found[client, s, int(query[0]) // 2]
        np.testing.assert_array_equal(tokens, np.concatenate([query, target[:-1]]))
        np.testing.assert_array_equal(asked, len(query) - 1 + np.arange(len(target)))
        np.testing.assert_array_equal(token, target)
        np.testing.assert_allclose(weight, 1 / len(batch), rtol=1e-6)


@settings(max_examples=30)
@given(cohorts())
def test_positions_are_counted_as_they_are(drawn):
    batches, layout = drawn
    plan = Planner(layout)(range(len(batches)), batches.__getitem__)
    used = [int((chunks > 0).sum()) for chunks in plan.cohort.chunks]
    sizes = [block.rows * block.width for block in plan.shape]
    assert plan.computed_positions == layout.lanes * int(np.dot(used, sizes))
    for block, chunks in zip(plan.cohort.batches, plan.cohort.chunks):
        for step, flight in np.ndindex(chunks.shape):
            labels = block.label_weight[:, step, flight]
            assert not labels[:, chunks[step, flight] :].any(), "labels beyond the chunks in use would not be computed"
            assert chunks[step, flight] == 0 or labels[:, chunks[step, flight] - 1].any(), "a chunk in use has labels"
            assert chunks[step, flight] > 0 or not block.segments[:, step, flight:].any(), (
                "nor would rows beyond flights"
            )
    assert plan.real_positions == sum(int((block.segments > 0).sum()) for block in plan.cohort.batches)
    flight = max(block.tokens.shape[-2] * block.tokens.shape[-1] for block in plan.cohort.batches)
    assert flight <= max(layout.positions_per_flight, layout.reaches[-1])


def test_examples_and_weights_say_who_takes_part():
    batches = [[[example(4, 2, 1), example(4, 2, 2)], []], [[example(4, 2, 3)], [example(4, 2, 4)]]]
    cohort = Planner(Layout(((16, 1),)))([7, 9], batches.__getitem__, weights=[2.0, 3.0]).cohort
    by_client = {
        int(c): (cohort.counts[0, :, p].tolist(), float(cohort.weight[0, p])) for p, c in enumerate(cohort.client[0])
    }
    assert by_client == {7: ([2.0, 0.0], 2.0), 9: ([1.0, 1.0], 3.0)}


def test_a_token_mean_weighs_every_target_token_alike():
    batches = [[[example(4, 1, 1), example(4, 3, 2)]]]
    cohort = Planner(Layout(((16, 1),)), reduction="token")([0], batches.__getitem__).cohort
    assert cohort.counts.tolist() == [[[4]]]
    (block,) = cohort.batches
    weights = block.label_weight[block.label_weight > 0]
    np.testing.assert_allclose(weights, [0.25] * 4)


def test_a_cell_short_of_long_texts_uses_the_flights_that_the_others_need():
    """One client's long texts open flights; the other lane's short texts move into as many, not into their own."""
    long = [[[example(60, 2, i) for i in range(4)]], [[example(10, 2, i) for i in range(4, 20)]]]
    plan = Planner(Layout(((16, 1), (16, 4)), lanes=2))([0, 1], long.__getitem__)
    (wide,) = plan.shape
    assert (wide.span, wide.rows) == (4, 17)  # 16 rows are a rung of 17
    assert [(chunks > 0).sum() for chunks in plan.cohort.chunks] == [1]


def test_texts_run_on_from_row_to_row_so_that_a_client_leaves_one_row_unfinished():
    """Texts of 20 positions in rows of 16: side by side in rows of 32 they would leave 12 of each unused."""
    batches = [[[example(20, 1, i) for i in range(16)]]]
    plan = Planner(Layout(((16, 3),), slack=0.0))([0], batches.__getitem__)
    (block,) = plan.shape
    assert block.rows == 20 == plan.computed_positions / 16 and plan.waste == 1.0


def test_a_client_with_few_steps_takes_them_when_the_others_have_fewest():
    """Three clients of 4, 2 and 2 steps: the two short ones share no step, and every client's steps stay in order."""
    lengths = {0: 4, 1: 2, 2: 2}
    batches = [[[example(10, 2, 10 * c + s + 1)] for s in range(steps)] for c, steps in lengths.items()]
    plan = Planner(Layout(((16, 1),)))([0, 1, 2], batches.__getitem__)
    (block,) = plan.cohort.batches
    taken = {client: [] for client in lengths}
    for step in range(4):
        for row, client in zip(block.tokens[0, step, 0], block.client[0, step, 0]):
            if row.any():
                taken[int(client)].append(int(row[0]) // 2)
    assert taken == {0: [1, 2, 3, 4], 1: [11, 12], 2: [21, 22]}
    assert plan.cohort.counts[0].sum(1).tolist() == [2, 2, 2, 2]


def test_an_example_longer_than_the_widest_row_is_refused():
    with pytest.raises(InputError, match="takes 65 positions, more than 4 rows of 16"):
        Planner(Layout(((16, 1), (16, 4))))([0], [[[example(61, 5, 1)]]].__getitem__)


@pytest.mark.parametrize(
    "fields",
    [
        {"lanes": 0},
        {"row_kinds": ()},
        {"row_kinds": ((8, 4), (8, 1))},
        {"row_kinds": ((8, 2), (16, 1))},
        {"row_kinds": ((8, 0),)},
        {"row_kinds": ((8,),)},
        {"row_kinds": ((0, 2),)},
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
def test_shapes_seen_before_open_no_program(seeds):
    planner = Planner(Layout(((16, 3),), slack=0.2))

    def plan(seed: int):
        draw = np.random.default_rng(seed)
        count = draw.integers(1, 20)
        batches = [[[example(*draw.integers(1, 20, 2), 1 + i) for i in range(count)]]]
        return planner([0], batches.__getitem__)

    first = [plan(seed) for seed in seeds]
    programs = len(planner.shapes)
    assert programs <= len(seeds) and all(plan.shape in planner.shapes for plan in first)
    for seed in seeds:
        plan(seed)
    assert len(planner.shapes) == programs


def test_each_process_reads_its_own_clients_and_all_plan_alike(monkeypatch):
    """Two processes of two lanes each, here in two threads, and one process of four lanes."""
    draw = np.random.default_rng(0)
    batches = [
        [[example(*draw.integers(1, 20, 2), 1 + i) for i in range(draw.integers(1, 5))] for _ in range(3)]
        for _ in range(7)
    ]
    layout, clients = Layout(((16, 3),), lanes=4), [*range(10, 17)]
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
    for name in ("counts", "chunks", "weight", "client"):
        jax.tree.map(np.testing.assert_array_equal, *(getattr(each.cohort, name) for each in plans))
    assert plans[0].shape == plans[1].shape

    def labels(cohort, lanes: slice) -> dict[int, list[int]]:
        """Of each client, the label tokens in its rows."""
        found: dict[int, list[int]] = {}
        for block in cohort.batches:
            for m, s, q, j, n in np.argwhere(block.label_weight > 0):
                row = block.label_at[m, s, q, j, n] // block.tokens.shape[-1]
                client = cohort.client[lanes][m, block.client[m, s, q, row]]
                found.setdefault(int(client), []).append(int(block.label_token[m, s, q, j, n]))
        return {client: sorted(tokens) for client, tokens in found.items()}

    own = labels(plans[0].cohort, slice(0, 2)) | labels(plans[1].cohort, slice(2, 4))
    assert own == labels(whole.cohort, slice(0, 4))
