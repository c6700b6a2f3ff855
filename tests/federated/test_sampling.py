"""Who takes part and with what is a function of names; every draw is of the right size and fair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.errors import InputError
from profit_jax.federated import sampling


def test_a_cohort_is_a_function_of_seed_and_round():
    assert (sampling.cohort(1, 2, 50, 8) == sampling.cohort(1, 2, 50, 8)).all()
    assert (sampling.cohort(1, 2, 50, 8) != sampling.cohort(1, 3, 50, 8)).any()
    assert (sampling.cohort(1, 2, 50, 8) != sampling.cohort(2, 2, 50, 8)).any()


def test_nobody_is_in_a_cohort_twice_and_all_are_drawn_alike():
    rounds = [sampling.cohort(0, round, 20, 5) for round in range(400)]
    assert all(len(set(cohort.tolist())) == 5 for cohort in rounds)
    counts = np.bincount(np.concatenate(rounds), minlength=20)
    # Binomial(400, 1/4): mean 100, standard deviation 8.7; six of them either way.
    assert (abs(counts - 100) < 6 * 8.7).all()


def test_more_clients_than_there_are_is_an_error():
    with pytest.raises(InputError, match="asks for 9 clients, but the data set has 8"):
        sampling.cohort(0, 0, 8, 9)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 9))
def test_batches_use_every_example_equally_often_up_to_one(size, steps, batch):
    drawn = sampling.batches(0, 3, 7, size, steps=steps, batch=batch)
    assert [len(step) for step in drawn] == [batch] * steps
    counts = np.bincount(np.concatenate(drawn), minlength=size)
    assert counts.max() - counts.min() <= 1


@given(st.integers(1, 40), st.integers(1, 9))
def test_an_epoch_uses_every_example_once_and_resumes_anywhere(size, batch):
    both = sampling.epochs(0, 0, 2, 5, size, batch=batch)
    parts = sampling.epochs(0, 0, 1, 5, size, batch=batch) + sampling.epochs(0, 1, 1, 5, size, batch=batch)
    assert [step.tolist() for step in both] == [step.tolist() for step in parts]
    assert (np.bincount(np.concatenate(both), minlength=size) == 2).all()


def test_pooled_draws_have_no_repeats_while_the_pool_lasts():
    drawn = sampling.pooled(0, 1, 60, shards=3, steps=4, batch=5)
    assert drawn.shape == (3, 4, 5) and len(set(drawn.ravel().tolist())) == 60
    assert sampling.pooled(0, 1, 10, shards=3, steps=4, batch=5).max() < 10
