from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from profit_jax.data.examples import Example
from profit_jax.data.shares import clients, dirichlet, equal, hold_out, pathological
from profit_jax.errors import InputError

LETTERS = "abcdefgh"


def letters(each: int) -> list[str]:
    """Rows of eight classes, so many of each, in turn."""
    return list(LETTERS) * each


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert [share.tolist() for share in one] == [share.tolist() for share in other]


def assert_disjoint(shares: list[np.ndarray], rows: int) -> None:
    owned = np.concatenate(shares)
    assert len(set(owned.tolist())) == len(owned)
    assert ((owned >= 0) & (owned < rows)).all()
    assert all((np.diff(share) > 0).all() for share in shares)


@st.composite
def deals(draw: st.DrawFn) -> tuple[list[str], int, int]:
    """Rows with uneven classes, enough for so many clients of so many classes each."""
    number, holders = draw(st.integers(1, 8)), draw(st.integers(1, 12))
    counts = draw(st.lists(st.integers(holders, 60), min_size=number, max_size=number))
    rows = [letter for letter, count in zip(LETTERS, counts) for _ in range(count)]
    return draw(st.permutations(rows)), holders, draw(st.integers(1, number))


@given(deals(), st.integers(0, 5))
def test_a_pathological_client_has_as_many_rows_as_any_evenly_of_its_classes(
    deal: tuple[list[str], int, int], seed: int
) -> None:
    classes, number, each = deal
    shares = pathological(classes, number, classes_per_client=each, seed=seed)
    assert_disjoint(shares, len(classes))
    assert len(shares) == number
    assert len({len(share) for share in shares}) == 1
    for share in shares:
        held = Counter(classes[row] for row in share)
        assert len(held) == each
        assert max(held.values()) - min(held.values()) <= 1


@given(deals(), st.integers(0, 5))
def test_pathological_decks_are_balanced(deal: tuple[list[str], int, int], seed: int) -> None:
    classes, number, each = deal
    shares = pathological(classes, number, classes_per_client=each, size=each, seed=seed)
    holders = Counter(classes[row] for share in shares for row in share)
    counts = [holders[name] for name in set(classes)]
    assert max(counts) - min(counts) <= 1


@given(deals(), st.integers(0, 5))
def test_size_0_is_the_largest_that_the_classes_allow(deal: tuple[list[str], int, int], seed: int) -> None:
    classes, number, each = deal
    largest = pathological(classes, number, classes_per_client=each, seed=seed)
    size = len(largest[0])
    assert_same(pathological(classes, number, classes_per_client=each, size=size, seed=seed), largest)
    with pytest.raises(InputError, match=rf"runs out: .* rows of it, there are \d+; size can be {size} at most"):
        pathological(classes, number, classes_per_client=each, size=size + 1, seed=seed)


def test_a_class_that_runs_out_is_named() -> None:
    classes = ["a"] * 100 + ["b"] * 3
    with pytest.raises(InputError, match="class 'b' runs out: its 5 clients need 50 rows of it, there are 3; take few"):
        pathological(classes, 5, size=20, seed=0)
    with pytest.raises(InputError, match="class 'b' runs out: its 5 clients need 5 rows of it, there are 3; take few"):
        pathological(classes, 5, seed=0)


@given(
    st.lists(st.sampled_from(LETTERS[:3]), min_size=1, max_size=200),
    st.integers(1, 5),
    st.floats(0.1, 100),
    st.integers(0, 5),
)
def test_dirichlet_deals_all_rows(classes: list[str], number: int, beta: float, minimum: int) -> None:
    try:
        shares = dirichlet(classes, number, beta=beta, minimum=minimum, seed=0)
    except InputError:
        assume(False)
    assert len(shares) == number
    assert min(map(len, shares)) >= minimum
    assert_disjoint(shares, len(classes))
    assert sum(map(len, shares)) == len(classes)


def test_the_smaller_beta_the_more_clients_differ() -> None:
    """The classes' numbers of rows in a client vary more; 100 of 800 rows each would be even."""
    classes = letters(each=800)

    def spread(beta: float) -> float:
        shares = dirichlet(classes, 8, beta=beta, seed=0)
        return float(np.std([Counter(classes[row] for row in share)[name] for share in shares for name in LETTERS]))

    # p ~ Dir(beta) over 8 clients has the variance (1/8)(7/8) / (8 beta + 1)
    for beta in (0.5, 5.0, 500.0):
        np.testing.assert_allclose(spread(beta), 800 * np.sqrt(7 / 64 / (8 * beta + 1)), rtol=0.35)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(0, 5))
def test_equal_shares_are_equal(rows: int, number: int, size: int) -> None:
    assume(max(size, 1) * number <= rows)
    shares = equal(rows, number, size=size, seed=0)
    assert [len(share) for share in shares] == [size or rows // number] * number
    assert_disjoint(shares, rows)


@given(st.integers(3, 200), st.integers(0, 9))
def test_a_client_is_split_whole_into_training_and_test_rows(rows: int, client: int) -> None:
    share = np.arange(rows) * 3
    train, test = hold_out(share, seed=0, client=client)
    assert len(test) == round(0.2 * rows)
    assert sorted([*train, *test]) == share.tolist()


def test_draws_depend_on_seed_and_client_alone() -> None:
    classes, share = letters(each=50), np.arange(100)
    draws = [
        lambda seed: pathological(classes, 10, seed=seed),
        lambda seed: dirichlet(classes, 10, seed=seed),
        lambda seed: equal(400, 10, size=20, seed=seed),
        lambda seed: list(hold_out(share, seed=seed, client=0)),
        lambda seed: list(hold_out(share, seed=0, client=seed)),
    ]
    for draw in draws:
        assert_same(draw(1), draw(1))
        assert [share.tolist() for share in draw(1)] != [share.tolist() for share in draw(2)]


def test_clients_hold_the_examples_of_their_shares() -> None:
    examples = [Example(f"a-{row}", "?", ("!",), "a", "") for row in range(40)]
    shares = equal(40, 3, size=10, seed=0)
    train, test = clients(examples, shares, seed=0)
    assert (train.sizes.tolist(), test.sizes.tolist()) == ([8] * 3, [2] * 3)
    for client, share in enumerate(shares):
        rows = hold_out(share, seed=0, client=client)
        for part, mine in zip((train, test), rows):
            assert [example.id for example in part[client]] == [f"a-{row}" for row in mine]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pathological(letters(5), 0, seed=0), "clients is 0"),
        (lambda: dirichlet(letters(5), 0, seed=0), "clients is 0"),
        (lambda: equal(10, 0, seed=0), "clients is 0"),
        (lambda: pathological(["a", "", ""], 1, seed=0), "2 of 3 rows have no class: name the data's category column"),
        (lambda: dirichlet(["a", ""], 1, seed=0), "1 of 2 rows have no class"),
        (lambda: pathological([], 1, seed=0), "no rows"),
        (lambda: dirichlet([], 1, seed=0), "no rows"),
        (lambda: pathological(["a", "a"], 1, seed=0), "classes_per_client is 2, and the data have 1 classes"),
        (lambda: pathological(letters(5), 1, classes_per_client=0, seed=0), "classes_per_client is 0"),
        (lambda: pathological(letters(5), 1, size=1, seed=0), "size is 1: a client cannot hold 2 classes"),
        (lambda: dirichlet(letters(5), 2, beta=0, seed=0), "beta is 0"),
        (lambda: dirichlet(letters(5), 2, beta=float("nan"), seed=0), "beta is nan"),
        (lambda: dirichlet(letters(5), 5, seed=0), "5 clients of 10 rows need 50, and there are 40"),
        (lambda: dirichlet(letters(5), 4, beta=0.01, seed=0), "1000 draws .* fewer than 10 rows, . at best"),
        (lambda: equal(100, 3, seed=0), "3 clients of 200 rows need 600, and there are 100"),
        (lambda: equal(2, 3, size=0, seed=0), "3 clients of 1 rows need 3, and there are 2"),
        (lambda: equal(100, 3, size=-1, seed=0), "size is -1"),
        (lambda: hold_out(np.arange(2), seed=0, client=7), "client 7 has 2 rows: .* leaves no test rows"),
        (lambda: hold_out(np.arange(2), fraction=0.9, seed=0, client=7), "client 7 has 2 rows: .* no training rows"),
    ],
)
def test_what_cannot_be_dealt_is_one_line(call, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
