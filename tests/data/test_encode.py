"""Text to tokens: what is cut, what never is, and what is counted."""

import numpy as np
import pytest

from profit_jax.data.encode import EncodedClients, Encoder
from profit_jax.data.examples import Example
from profit_jax.errors import InputError
from tests.worlds import Letters, clients


def encode(query: str, target: str, **limits: int):
    encoder = Encoder(Letters(), **limits)
    (one,) = encoder([Example("id", query, (target, "other"), "task", "type")])
    return one, encoder.counts


def test_a_query_starts_and_a_target_ends_with_their_special_tokens():
    one, counts = encode("ab", "c")
    assert one.query.tolist() == [0, 3, 4] and one.target.tolist() == [5, 1]
    assert counts["truncated_queries"] == counts["truncated_targets"] == 0


def test_a_long_query_loses_its_left_and_keeps_its_start():
    one, counts = encode("abcdef", "c", max_query=4)
    assert one.query.tolist() == [0, 6, 7, 8] and one.target.tolist() == [5, 1]
    assert counts["truncated_queries"] == 1


def test_a_query_is_never_the_reason_to_cut_a_target():
    one, counts = encode("abcdef" * 50, "abc", max_query=4, max_target=4)
    assert one.target.tolist() == [3, 4, 5, 1] and counts["truncated_targets"] == 0


def test_a_long_target_loses_its_end_and_is_counted():
    one, counts = encode("a", "abc", max_target=3)
    assert one.target.tolist() == [3, 4, 5] and counts["truncated_targets"] == 1


def test_an_empty_query_still_has_a_position_to_ask():
    one, _ = encode("", "a")
    assert len(one.query) >= 1


def test_a_model_without_a_tokenizer_says_so():
    with pytest.raises(InputError, match="no tokenizer"):
        Encoder(None)


@pytest.mark.parametrize("limits", [{"max_query": 1}, {"max_target": 0}])
def test_limits_without_room_are_refused(limits):
    with pytest.raises(InputError, match="no room"):
        Encoder(Letters(), **limits)


def test_taking_by_number_equals_reading_clients_in_order():
    data = EncodedClients(clients((2, 3)), Encoder(Letters()))
    read = [one for client in range(2) for one in data.client(client)]
    for taken, one in zip(data.take(range(5)), read, strict=True):
        np.testing.assert_array_equal(taken.query, one.query)
