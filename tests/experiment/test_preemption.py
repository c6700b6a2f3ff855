"""Pre-emption of several processes, with JAX's service played; tests/test_hosts.py has it for real."""

import jax
import pytest
from jax.experimental import multihost_utils

from profit_jax.experiment.preemption import Preemption


@pytest.mark.parametrize(
    ("named", "asked", "ends"),
    [
        (3, [1, 2, 3, 4], 3),
        (1, [301, 302], 301),  # the notice came before the first round of a run that is resumed
        (3, [2, 4, 6], 4),  # a run that asks after every other round
        (5, [302, 304], 302),
    ],
)
def test_a_run_ends_after_the_round_that_the_service_names_or_the_next_it_asks_about(monkeypatch, named, asked, ends):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda round: round == named)
    with Preemption() as preemption:
        assert next(round for round in asked if preemption.asked(round)) == ends
