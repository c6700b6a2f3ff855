"""Jobs of several processes, for real: over loopback, each with devices of its own, equal to one process."""

import functools
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from profit_jax.data import tiny
from profit_jax.experiment import read_adapter
from tests import forks, worlds
from tests.test_killed import contents


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = worlds.prepared(tmp_path_factory.mktemp("world"))
    tiny.write_instructions(folder / "instructions.jsonl", rows=200)
    return folder


def profit(world: Path) -> list[str]:
    fields = {"model": world / "model", "data_dir": world / "data", "rounds": 4, "validate_every": 2}
    fields |= {"local_steps": 2, "batch_size": 4, "validation_examples": 16}
    # SGD, since Adam turns the rounding of tiny gradients into visible steps.
    fields |= {"server_optimizer.name": "sgd", "client_optimizer.name": "sgd", "checkpoint_every": 1}
    return ["launch/profit_train.py", "--config=configs/profit/debug.py", *as_flags(fields)]


def perfit(world: Path) -> list[str]:
    fields = {"model": world / "model", "data": world / "instructions.jsonl", "size": 10}
    fields |= {"client_optimizer.name": "sgd"}
    return ["launch/perfit_train.py", "--config=configs/perfit/debug.py:perfit,r16", *as_flags(fields)]


def stage2(world: Path) -> list[str]:
    fields = {"model": world / "model", "data_dir": world / "data"}
    own = {"start": "random_word", "epochs": 2, "average": "(0.0, 0.5, 1.0)", "optimizer.name": "sgd"}
    fields |= {f"personalize.{name}": value for name, value in own.items()}
    return ["launch/profit_personalize.py", "--config=configs/profit/debug.py", *as_flags(fields)]


def as_flags(fields: dict[str, object]) -> list[str]:
    return [f"--config.{name}={value}" for name, value in fields.items()]


def job(command: list[str], workdir: Path, processes: int, devices: int, mesh: str) -> list[forks.Launcher]:
    """Starts the processes of a job, each with so many devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    started = []
    for process in range(processes):
        who = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}", f"--process={process}"]
        arguments = [*command, f"--workdir={workdir}", f"--mesh={mesh}", *(who if processes > 1 else [])]
        log = Path(f"{workdir}.{process}.log")
        log.write_text("")
        started.append(forks.start(arguments, log, {"XLA_FLAGS": flags}))
    return started


def run(command: list[str], workdir: Path, processes: int = 1, devices: int = 1, mesh: str = "clients:-1") -> Path:
    for number, process in enumerate(job(command, workdir, processes, devices, mesh)):
        assert process.wait(timeout=400) == 0, Path(f"{workdir}.{number}.log").read_text()
    return workdir


@pytest.fixture(scope="module")
def ended(world, tmp_path_factory) -> Callable[..., Path]:
    """The workdir of a run that nobody has stopped; each is run once."""

    @functools.cache
    def ended(paper: Callable[[Path], list[str]], *how: int | str) -> Path:
        return run(paper(world), tmp_path_factory.mktemp("ended") / "run", *how)

    return ended


def until(seen: Callable[[], bool], processes: list[forks.Launcher], workdir: Path) -> None:
    """Waits until something is seen of a job, all of whose processes go on."""
    while not seen():
        assert all(process.poll() is None for process in processes), Path(f"{workdir}.0.log").read_text()
        time.sleep(0.05)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rounds_done(workdir: Path) -> int:
    file = workdir / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


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
@pytest.mark.parametrize(
    ("paper", "records"),
    [
        (profit, ["metrics"]),
        (perfit, ["metrics", "perplexity"]),
        pytest.param(stage2, ["clients"], marks=pytest.mark.slow),
    ],
)
def test_a_job_of_several_processes_is_the_run_of_one(ended, paper, records, processes, devices, mesh):
    alone, together = ended(paper), ended(paper, processes, devices, mesh)
    assert_same(alone, together, *records)
    if paper is perfit:
        masks = [np.load(each / "masks.npz")["bitmaps"] for each in (alone, together)]
        assert (np.unpackbits(masks[0]) != np.unpackbits(masks[1])).mean() < 1e-3  # ties of rounding
    if paper is stage2:
        rows = [lines(each / "clients.jsonl") for each in (alone, together)]
        assert {row["alpha"] for row in rows[0] if row["point"] == "average"} == {0.0, 0.5, 1.0}
        scores = ([(row["local"], row["global"]) for row in each] for each in rows)
        np.testing.assert_allclose(*scores, atol=0.01)  # a token of an answer may turn on rounding
    logs = [Path(f"{together}.{process}.log").read_text() for process in range(processes)]
    assert ["\nwritten: " in log for log in logs] == [True] + [False] * (processes - 1)


@pytest.mark.slow
def test_a_job_that_is_told_to_end_saves_one_round_in_all_processes_and_goes_on_from_it(world, tmp_path):
    """Before their first round one process is told, and after a restart both."""
    command = [*profit(world), "--config.rounds=40"]  # more than are done before a process has heard of it
    workdir, how, done = tmp_path / "run", (2, 2, "clients:-1"), 0
    logs = [Path(f"{workdir}.{process}.log") for process in range(2)]
    for told in ([1], [0, 1]):
        processes = job(command, workdir, *how)
        until(lambda: "train:" in logs[0].read_text(), processes, workdir)  # the bar: the job has come together
        for process in told:
            processes[process].send_signal(signal.SIGTERM)
        said = [process.wait(timeout=400) for process in processes], [log.read_text() for log in logs]
        assert said[0] == [os.EX_TEMPFAIL] * 2, said[1]
        stops = [re.search(r"stopped by SIGTERM after round (\d+) of 40, and saved", log)[1] for log in said[1]]
        saved = int(max((workdir / "checkpoints").glob("[0-9]*"), key=lambda folder: int(folder.name)).name)
        assert [*map(int, stops)] == [saved] * 2 and done < saved < 40
        done = saved
    assert contents(run(command, workdir, *how)) == contents(run(command, tmp_path / "ended", *how))


@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_lost_process_ends_the_others_and_the_job_goes_on_when_started_again(world, tmp_path, lost):
    command, workdir = [*profit(world), "--config.rounds=400"], tmp_path / "run"
    processes = job(command, workdir, 2, 1, "clients:-1")
    until(lambda: rounds_done(workdir) >= 3, processes, workdir)
    processes[lost].send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert processes[1 - lost].wait(timeout=120) != 0
    processes[lost].wait()
    assert time.monotonic() - began < 60
    said = Path(f"{workdir}.{1 - lost}.log").read_text()
    assert "another task died" in said or "another process of this job has ended" in said
    done = rounds_done(workdir)
    again = job(command, workdir, 2, 1, "clients:-1")
    until(lambda: rounds_done(workdir) >= done + 2, again, workdir)
    for process in again:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [row["round"] for row in lines(workdir / "metrics.jsonl")][: done + 1] == [*range(1, done + 2)]
