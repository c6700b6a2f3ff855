"""Jobs of several processes, for real: over loopback, each with devices of its own, equal to one process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from profit_jax.data import tiny
from profit_jax.experiment import read_adapter
from tests import worlds

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = worlds.prepared(tmp_path_factory.mktemp("world"))
    tiny.write_instructions(folder / "instructions.jsonl", rows=200)
    return folder


def profit(world: Path) -> list[str]:
    fields = {"model": world / "model", "data_dir": world / "data", "rounds": 4, "validate_every": 2}
    # SGD, since Adam turns the rounding of tiny gradients into visible steps.
    fields |= {"server_optimizer.name": "sgd", "client_optimizer.name": "sgd", "checkpoint_every": 1}
    return ["launch/profit_train.py", "--config=configs/profit/debug.py", *as_flags(fields)]


def perfit(world: Path) -> list[str]:
    fields = {"model": world / "model", "data": world / "instructions.jsonl", "client_optimizer.name": "sgd"}
    return ["launch/perfit_train.py", "--config=configs/perfit/debug.py:perfit,r16", *as_flags(fields)]


def as_flags(fields: dict[str, object]) -> list[str]:
    return [f"--config.{name}={value}" for name, value in fields.items()]


def job(command: list[str], workdir: Path, processes: int, devices: int, mesh: str) -> list[subprocess.Popen]:
    """Starts the processes of a job, each with so many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    started = []
    for process in range(processes):
        who = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={process}"]
        arguments = [*command, f"--workdir={workdir}", f"--mesh={mesh}", *(who if processes > 1 else [])]
        with open(f"{workdir}.{process}.log", "w") as log:
            environment = os.environ | {"XLA_FLAGS": flags}
            started.append(
                subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)
            )
    return started


def run(command: list[str], workdir: Path, processes: int = 1, devices: int = 1, mesh: str = "clients:-1") -> Path:
    for number, process in enumerate(job(command, workdir, processes, devices, mesh)):
        assert process.wait(timeout=400) == 0, Path(f"{workdir}.{number}.log").read_text()
    return workdir


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def assert_same(one: Path, other: Path, *records: str) -> None:
    """The adapters to float32 rounding, and the records' integers exactly."""
    for mine, yours in zip(*(jax.tree.leaves(read_adapter(each, "last")) for each in (one, other)), strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-5, atol=1e-5)
    for name in records:
        pairs = zip(lines(one / f"{name}.jsonl"), lines(other / f"{name}.jsonl"), strict=True)
        for mine, yours in pairs:
            assert {k: v for k, v in mine.items() if isinstance(v, int)} == {
                k: v for k, v in yours.items() if isinstance(v, int)
            }


@pytest.mark.parametrize(
    ("processes", "devices", "mesh"),
    [
        (2, 2, "clients:-1"),
        pytest.param(4, 1, "clients:-1", marks=pytest.mark.slow),
        pytest.param(2, 2, "clients:2,model:2", marks=pytest.mark.slow),
        pytest.param(4, 1, "clients:2,model:2", marks=pytest.mark.slow),  # a lane of two processes
    ],
)
@pytest.mark.parametrize("paper", [profit, perfit])
def test_a_job_of_several_processes_is_the_run_of_one(world, tmp_path, paper, processes, devices, mesh):
    alone = run(paper(world), tmp_path / "alone")
    together = run(paper(world), tmp_path / "together", processes, devices, mesh)
    assert_same(alone, together, "metrics", "perplexity" if paper is perfit else "metrics")
    if paper is perfit:
        masks = [np.load(each / "masks.npz")["bitmaps"] for each in (alone, together)]
        assert (np.unpackbits(masks[0]) != np.unpackbits(masks[1])).mean() < 1e-3  # ties of rounding
    spoken = [Path(f"{tmp_path / 'together'}.{process}.log").read_text() for process in range(processes)]
    assert ["rounds done" in each for each in spoken] == [True] + [False] * (processes - 1)


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_lost_process_ends_the_others_and_the_job_goes_on_when_started_again(world, tmp_path, lost):
    command, workdir = [*profit(world), "--config.rounds=400"], tmp_path / "run"
    processes = job(command, workdir, 2, 1, "clients:-1")
    while not (workdir / "metrics.jsonl").exists() or len(lines(workdir / "metrics.jsonl")) < 3:
        assert all(process.poll() is None for process in processes), Path(f"{workdir}.0.log").read_text()
        time.sleep(0.05)
    processes[lost].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert processes[1 - lost].wait(timeout=120) != 0
    processes[lost].wait()
    assert time.monotonic() - began < 60
    said = Path(f"{workdir}.{1 - lost}.log").read_text()
    assert "another task died" in said or "another process of this job has ended" in said
    done = len(lines(workdir / "metrics.jsonl"))
    again = job(command, workdir, 2, 1, "clients:-1")
    while len(lines(workdir / "metrics.jsonl")) < done + 2:
        assert all(process.poll() is None for process in again), Path(f"{workdir}.0.log").read_text()
        time.sleep(0.05)
    for process in again:
        process.kill()
        process.wait()
    assert [row["round"] for row in lines(workdir / "metrics.jsonl")][: done + 1] == [*range(1, done + 2)]
