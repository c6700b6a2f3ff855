"""Profit's protocol: the second stage, its baselines and heuristics."""

from profit_jax.benchmark.baselines import few_shot, no_prompt
from profit_jax.benchmark.personalize import Curve, TestClients, choose_test_clients, personalize

__all__ = ["Curve", "TestClients", "choose_test_clients", "few_shot", "no_prompt", "personalize"]
