import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.data.partition import PARTITIONS, Partition, clients_of, cut, even_offsets
from profit_jax.errors import InputError

Arrays = tuple[np.ndarray, np.ndarray]


@st.composite
def instances(draw: st.DrawFn) -> Arrays:
    """Types and tasks of instances in any order; a task has one type."""
    type_of_task = draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
    tasks = np.array(draw(st.lists(st.integers(0, len(type_of_task) - 1), min_size=1, max_size=120)))
    return np.array(type_of_task)[tasks], tasks


def big_enough(types: np.ndarray, chunk_size: int) -> np.ndarray:
    """The instances of types with at least half a chunk."""
    return np.flatnonzero([2 * np.sum(types == kind) >= chunk_size for kind in types])


def members(partition: Partition) -> list[np.ndarray]:
    return np.split(partition.order, partition.offsets[1:-1])


@given(instances(), st.integers(1, 30), st.integers(0, 5), st.sampled_from(PARTITIONS))
def test_partitions_are_disjoint_and_covering(arrays: Arrays, chunk_size: int, seed: int, name: str) -> None:
    types, tasks = arrays
    partition = cut(name, types, tasks, chunk_size, seed)
    np.testing.assert_array_equal(np.sort(partition.order), big_enough(types, chunk_size))
    assert partition.offsets[0] == 0
    assert partition.offsets[-1] == len(partition.order)
    assert (partition.sizes > 0).all()


@given(instances(), st.integers(1, 30), st.integers(0, 5), st.sampled_from(PARTITIONS))
def test_clients_are_evenly_sized(arrays: Arrays, chunk_size: int, seed: int, name: str) -> None:
    types, tasks = arrays
    partition = cut(name, types, tasks, chunk_size, seed)
    if name == "lhf":
        groups = [partition.sizes]
    else:
        kind = types[partition.order[partition.offsets[:-1]]]
        groups = [partition.sizes[kind == one] for one in np.unique(kind)]
        for sizes in groups:  # round(n / chunk_size) clients, a half up
            assert abs(sizes.sum() / chunk_size - len(sizes)) <= 0.5
    assert all(np.ptp(sizes) <= 1 for sizes in groups if len(sizes))


@given(instances(), st.integers(1, 30), st.integers(0, 5))
def test_all_partitions_have_the_same_clients_and_instances(arrays: Arrays, chunk_size: int, seed: int) -> None:
    high, medium, low = (cut(name, *arrays, chunk_size, seed) for name in PARTITIONS)
    assert high.clients == medium.clients == low.clients
    assert set(high.order) == set(medium.order) == set(low.order)


@given(instances(), st.integers(1, 30), st.integers(0, 5))
def test_hhf_and_mhf_clients_have_one_type_and_lhf_mixes(arrays: Arrays, chunk_size: int, seed: int) -> None:
    types, tasks = arrays
    for name in ("hhf", "mhf"):
        assert all(
            len(np.unique(types[mine])) == 1 for mine in members(cut(name, types, tasks, chunk_size, seed)) if len(mine)
        )
    for kind in np.unique(types):  # what HHF's clients of a type hold, in order, is sorted by task, then as given
        order = cut("hhf", types, tasks, chunk_size, seed).order
        mine = order[types[order] == kind]
        assert mine.tolist() == sorted(mine.tolist(), key=lambda i: (tasks[i], i))


@pytest.mark.parametrize("name", ["mhf", "lhf"])
def test_a_seed_gives_one_partition(name: str) -> None:
    types, tasks = np.repeat([0, 1], 50), np.repeat([0, 1, 2, 3], 25)
    one, again, other = (cut(name, types, tasks, 10, seed).order.tolist() for seed in (1, 1, 2))
    assert one == again != other


def test_hhf_needs_no_seed() -> None:
    types, tasks = np.repeat([0, 1], 50), np.repeat([0, 1, 2, 3], 25)
    assert cut("hhf", types, tasks, 10, 1).order.tolist() == cut("hhf", types, tasks, 10, 2).order.tolist()


def test_mhf_mixes_tasks_inside_a_type_and_lhf_types() -> None:
    types, tasks = np.repeat([0, 1], 200), np.repeat([0, 1, 2, 3], 100)
    for name, kinds, jobs in (("hhf", 1, 1), ("mhf", 1, 2), ("lhf", 2, 4)):
        for mine in members(cut(name, types, tasks, 50, seed=0)):
            assert (len(np.unique(types[mine])), len(np.unique(tasks[mine]))) == (kinds, jobs)


def test_a_worked_example() -> None:
    types = np.array([1, 0, 1, 0, 0, 1, 0, 2])  # type 2 has one instance of a chunk of 3
    tasks = np.array([9, 5, 8, 4, 5, 8, 4, 7])
    order, offsets = cut("hhf", types, tasks, 3, seed=0)
    assert order.tolist() == [3, 6, 1, 4, 2, 5, 0]  # type 0: task 4, task 5; type 1: task 8, task 9
    assert offsets.tolist() == [0, 4, 7]


def test_nothing_big_enough_gives_no_client() -> None:
    for name in PARTITIONS:
        partition = cut(name, np.array([0, 1]), np.array([0, 1]), 10, seed=0)
        assert (partition.clients, len(partition.order)) == (0, 0)


def test_clients_are_rounded_to_nearest() -> None:
    assert [clients_of(n, 4) for n in (0, 1, 2, 5, 6, 9, 10)] == [0, 0, 1, 1, 2, 2, 3]
    assert np.diff(even_offsets(10, 4)).tolist() == [3, 3, 2, 2]


def test_bad_settings_are_errors() -> None:
    with pytest.raises(InputError, match="chunk_size is 0"):
        cut("hhf", np.array([0]), np.array([0]), 0, seed=0)
    with pytest.raises(InputError, match="unknown partition 'xhf'"):
        cut("xhf", np.array([0]), np.array([0]), 1, seed=0)
