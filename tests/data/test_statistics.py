import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profit_jax.data import sni, statistics
from profit_jax.data.partition import Partition


def task(name: str, kind: str, **fields: tuple[str, ...]) -> sni.Task:
    lists = ["Contributors", "Source", "URL", "Reasoning", "Input_language", "Output_language", "Instruction_language"]
    lists += ["Domains", "Positive Examples", "Negative Examples", "Instances", "Instance License"]
    empty = {field: [] for field in lists}
    return replace(sni.parse_task(name, {**empty, "Categories": [kind], "Definition": ["Do."]}, name), **fields)


def test_task_counts_are_those_of_a_loop() -> None:
    partition = Partition(np.array([4, 0, 2, 1, 3]), np.array([0, 3, 5]))
    of = np.array([0, 2, 2, 0, 0])
    counts = statistics.task_counts(partition, of, 4)
    assert counts.tolist() == [[2, 0, 1, 0], [1, 0, 1, 0]]


def test_list_entries_count_with_equal_share_and_none_has_its_own_value() -> None:
    shares = statistics.entry_shares([("a", "b"), ("b",), (), ()])
    assert shares.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]


def test_the_divergence_of_a_worked_example() -> None:
    # Client 0 holds 3 instances of a task in (a, b) and 1 of a task in (b): p_0 = (3/8, 5/8).
    # Client 1 holds 4 of the second: p_1 = (0, 1). Together p = (3/16, 13/16).
    counts = np.array([[3, 1], [0, 4]])
    shares = statistics.entry_shares([("a", "b"), ("b",)])
    first = 3 / 8 * math.log((3 / 8) / (3 / 16)) + 5 / 8 * math.log((5 / 8) / (13 / 16))
    second = math.log(16 / 13)
    assert statistics.mean_divergence(counts, shares) == pytest.approx((first + second) / 2, rel=1e-12)


def test_the_global_distribution_weighs_clients_by_instances_and_the_mean_does_not() -> None:
    # p = (0.9, 0.1) of 90 + 10 instances; KL_0 = log(1/0.9), KL_1 = log(1/0.1).
    counts = np.array([[90, 0], [0, 10]])
    expected = (math.log(1 / 0.9) + math.log(10)) / 2
    assert statistics.mean_divergence(counts, np.eye(2)) == pytest.approx(expected, rel=1e-12)


def test_equal_clients_do_not_diverge() -> None:
    assert statistics.mean_divergence(np.array([[2, 4], [1, 2]]), np.eye(2)) == pytest.approx(0, abs=1e-15)


def test_a_summary_counts_instances_tasks_and_types_of_each_client() -> None:
    tasks = [task("a", "one", domains=("x", "y")), task("b", "one", domains=("x",)), task("c", "two")]
    found = statistics.summary(np.array([[2, 2, 0], [0, 0, 10]]), tasks)
    assert (found["clients"], found["total_instances"]) == (2, 14)
    assert found["instances"] == {"mean": 7, "std": 3, "min": 4, "max": 10}
    assert found["tasks"] == {"mean": 1.5, "std": 0.5, "min": 1, "max": 2}
    assert found["task_types"] == {"mean": 1, "std": 0, "min": 1, "max": 1}
    by_type = (math.log(14 / 4) + math.log(14 / 10)) / 2
    assert found["kl_divergence"]["task_type"] == pytest.approx(by_type)
    # Mass of x, y and "no entry": client 0 (3, 1, 0), client 1 (0, 0, 10); the first two are 4 / 14 of all.
    assert found["kl_divergence"]["domain"] == pytest.approx(by_type)
    assert found["kl_divergence"]["source"] == 0  # no task names one
    assert list(found["kl_divergence"]) == list(statistics.CATEGORIES)


def test_statistics_are_written_whole_as_json(tmp_path: Path) -> None:
    counts = np.array([[1, 0], [0, 1]])
    record = statistics.record(
        dict.fromkeys(["train", "validation", "test"], counts), [task("a", "one"), task("b", "two")]
    )
    statistics.write(tmp_path / "statistics.json", {"hhf": record})
    assert json.loads((tmp_path / "statistics.json").read_text()) == {"hhf": record}
    assert record["test"]["kl_divergence"]["task"] == record["kl_divergence"]["task"] == pytest.approx(math.log(2))
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.json"]
