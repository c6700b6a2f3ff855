"""The launcher that searches a grid: what it trains together, what it runs once, and what it says is best."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import prepared

ROOT = Path(__file__).parents[1]
SMALLEST = {
    "rounds": 2,
    "clients_per_round": 2,
    "max_query": 24,
    "max_target": 8,
    "local_steps": 1,
    "validate_every": 1,
    "validation_examples": 4,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return prepared(tmp_path_factory.mktemp("world"))


def sweep(world: Path, *arguments: str, workdir: str = "sweep") -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "launch.sweep",
        "--config=configs/profit/tiny.py:hhf,fed_avg_adam",
        f"--config.model={world / 'model'}",
        f"--config.data_dir={world / 'data'}",
        f"--workdir={world / workdir}",
        *(f"--config.{name}={value}" for name, value in SMALLEST.items()),
        *arguments,
    ]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


def test_rates_are_trained_together_and_other_fields_apart_and_all_of_it_once(world):
    """Two client rates, one of which is not a number, of two batch sizes: two jobs, four ordinary runs."""
    pytest.importorskip("tensorboard")
    grid = ("--grid=client_optimizer.learning_rate=0.1,1e30", "--grid=batch_size=2,3")
    done = sweep(world, *grid, "--log=tensorboard")
    assert done.returncode == 0, done.stderr
    assert "2 runs, 0 of them there already" in done.stdout
    assert done.stdout.endswith(f"next: tensorboard --logdir={world / 'sweep'}\n")
    assert {events.parts[-4] for events in (world / "sweep").rglob("events.out.tfevents.*")} == {
        each.name for each in (world / "sweep").glob("batch_size=*")
    }
    rows = [json.loads(line) for line in (world / "sweep" / "sweep.jsonl").read_text().splitlines()]
    assert {(row["fields"]["client_optimizer.learning_rate"], row["fields"]["batch_size"]) for row in rows} == {
        (rate, size) for rate in (0.1, 1e30) for size in (2, 3)
    }
    assert [row["best"] for row in rows] == [True, False, False, False]
    for row in rows:
        config = json.loads((world / "sweep" / row["run"] / "config.json").read_text())
        assert config["batch_size"] == row["fields"]["batch_size"]
        assert config["client_optimizer"]["learning_rate"] == row["fields"]["client_optimizer.learning_rate"]
        lines = (world / "sweep" / row["run"] / "metrics.jsonl").read_text().splitlines()
        scores = [json.loads(line)["validation_score"] for line in lines]
        assert row["values"]["validation"] in (None, pytest.approx(max(scores)))
    again = sweep(world, *grid)
    assert "2 runs, 2 of them there already" in again.stdout
    assert (world / "sweep" / "sweep.md").read_text() in again.stdout


def test_a_grid_that_cannot_be_is_one_line(world):
    for grid, said in {
        "server_optimiser.learning_rate=1,2": "did you mean server_optimizer.learning_rate?",
        "rounds=few,many": "'few' is of another type than rounds's value",
        "rounds": "give FIELD=VALUE,VALUE,…, each field once",
    }.items():
        done = sweep(world, f"--grid={grid}", workdir="none")
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (world / "none").exists()
