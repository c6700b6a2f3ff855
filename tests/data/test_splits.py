import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.data.splits import EXCLUDED, TEST, VALIDATION, split_types
from profit_jax.errors import InputError

NAMES = [*TEST, *VALIDATION, *EXCLUDED, *(f"type {i}" for i in range(58))]


@given(st.sets(st.sampled_from(NAMES), min_size=7), st.sampled_from(["paper", "random"]), st.integers(0, 99))
def test_every_type_is_in_exactly_one_split(types: set[str], method: str, seed: int) -> None:
    split = split_types(types, method, seed)
    placed = [name for names in split for name in names]
    assert sorted(placed) == sorted(types)
    assert set(split.excluded) == types & set(EXCLUDED)


def test_the_paper_split_of_the_release_is_7_7_58_4() -> None:
    split = split_types(NAMES)
    assert (set(split.test), set(split.validation), set(split.excluded)) == (set(TEST), set(VALIDATION), set(EXCLUDED))
    assert [len(names) for names in split] == [58, 7, 7, 4]
    assert split == split_types(NAMES, "paper", seed=5)


def test_the_random_split_draws_ten_percent_each() -> None:
    split = split_types(NAMES, "random", seed=0)
    assert [len(names) for names in split] == [58, 7, 7, 4]
    assert [len(names) for names in split_types(["a", "b", "c"], "random")] == [1, 1, 1, 0]


def test_a_seed_draws_one_random_split_in_any_order_of_types() -> None:
    assert split_types(NAMES, "random", 1) == split_types(NAMES[::-1], "random", 1)
    assert split_types(NAMES, "random", 1) != split_types(NAMES, "random", 2)


def test_bad_settings_are_errors() -> None:
    with pytest.raises(InputError, match="unknown split 'best'"):
        split_types(NAMES, "best")
    with pytest.raises(InputError, match="at least 3 task types"):
        split_types(["a", "b", "Mathematics"], "random")
