"""Resuming is exact: launchers that are killed at random moments end as the run that nobody has stopped.

The long version, 30 kills of each launcher and more: `make kill`.
"""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from profit_jax.data import tiny
from profit_jax.experiment.checkpoint import read_checkpoint
from tests import forks, worlds

KILLS = int(os.environ.get("PROFIT_KILLS", "3"))  # of each command
SECONDS = ("seconds", "waited")  # of a row: how long it took is another each time
ELSEWHERE = ("run", "command")  # of a row: they name the workdir


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = worlds.prepared(tmp_path_factory.mktemp("world"))
    tiny.write_instructions(folder / "instructions.jsonl", rows=200)
    return folder


def profit(world: Path, *fields: str) -> list[str]:
    config = ["--config=configs/profit/debug.py", f"--config.model={world / 'model'}"]
    config += [f"--config.{name}=2" for name in ("clients_per_round", "local_steps", "batch_size")]
    return [*config, f"--config.data_dir={world / 'data'}", "--config.checkpoint_every=1", *fields]


def commands(world: Path) -> dict[str, list[str]]:
    perfit = ["--config=configs/perfit/debug.py:perfit,r16", f"--config.model={world / 'model'}"]
    perfit += [f"--config.data={world / 'instructions.jsonl'}", "--config.checkpoint_every=1", "--config.size=10"]
    rates = ["--rates=0.1,0.1", "--rates=0.3,0.1"]
    stage2 = ["--config.personalize.start=random_word", "--config.personalize.average=(0.0, 0.5, 1.0)"]
    few = {"clients": 2, "train_examples": 8, "test_examples": 4, "global_examples": 8, "epochs": 4}
    stage2 += [f"--config.personalize.{name}={count}" for name, count in few.items()]
    scored = ["--config.validate_every=2", "--config.validation_examples=8"]
    return {
        "train": ["launch/profit_train.py", *profit(world, "--config.rounds=4", *scored)],
        "side_by_side": ["launch/profit_train.py", *profit(world, "--config.rounds=4", *rates)],
        "personalize": ["launch/profit_personalize.py", *profit(world, *stage2)],
        "perfit": ["launch/perfit_train.py", *perfit],
        "sweep": ["launch/sweep.py", *profit(world, "--config.rounds=3"), "--grid=local_steps=1,2"],
        "reproduce": [
            "launch/reproduce.py",
            "--experiment=perfit/tuning_perfit_r16",
            "--scale=debug",
            "--seeds=1",
            f"--model={world / 'model'}",
            f"--data={world / 'instructions.jsonl'}",
            "--set=rounds=2",
            "--set=checkpoint_every=1",
        ],
    }


def start(command: list[str], workdir: Path, world: Path) -> forks.Launcher:
    environment = {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(world / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return forks.start([*command, f"--workdir={workdir}"], workdir.with_suffix(".log"), environment)


def changes(folder: Path, process: forks.Launcher) -> Iterator[None]:
    """Each time that something in the folder has changed; ends when the process does."""
    before = None
    while process.poll() is None:
        try:
            now = [(file, file.stat().st_size) for file in sorted(folder.rglob("*"))]
        except FileNotFoundError:  # gone between the two
            continue
        if now != before:
            before = now
            yield
        time.sleep(0.002)


def stop_somewhere(process: forks.Launcher, workdir: Path, draw: random.Random) -> int:
    """Stops the process after a random number of changes in its workdir; returns its exit status."""
    which = signal.SIGTERM if draw.random() < 0.25 else signal.SIGKILL
    left = draw.randrange(1, 60)
    for _ in changes(workdir, process):
        left -= 1
        if left == 0:
            time.sleep(draw.choice([0, 0, 0.02, 0.3]))
            process.send_signal(which)
    return process.wait()


def contents(workdir: Path) -> dict[str, object]:
    """What a run has left: records, masks, adapters and the rest of its checkpoint, of all runs in the folder."""
    found: dict[str, object] = {}
    for file in sorted(workdir.rglob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[str(file.relative_to(workdir))] = [
            {k: v for k, v in row.items() if k not in SECONDS + ELSEWHERE} for row in rows
        ]
    for file in sorted(workdir.rglob("*.npz")):
        with np.load(file) as arrays:
            found[str(file.relative_to(workdir))] = {name: arrays[name].tobytes() for name in arrays.files}
    for folder in sorted(workdir.rglob("checkpoints")):
        leaves = jax.tree.leaves_with_path(read_checkpoint(folder.parent))
        found[str(folder.relative_to(workdir))] = {jax.tree_util.keystr(path): leaf.tobytes() for path, leaf in leaves}
    return found


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("sweep", "reproduce")]  # they start many runs


@pytest.mark.parametrize("name", ["train", "side_by_side", "personalize", "perfit", *OTHERS])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(world, name, tmp_path):
    draw, command = random.Random(name), commands(world)[name]
    assert start(command, tmp_path / "whole", world).wait() == 0, (tmp_path / "whole.log").read_text()
    expected, victim = contents(tmp_path / "whole"), tmp_path / "victim"
    killed = 0
    while killed < KILLS:
        status = stop_somewhere(start(command, victim, world), victim, draw)
        log = victim.with_suffix(".log").read_text()
        assert status in (0, os.EX_TEMPFAIL, -signal.SIGKILL, -signal.SIGTERM), log
        killed += status != 0
        if status == 0:
            assert contents(victim) == expected
            shutil.rmtree(victim)
    assert start(command, victim, world).wait() == 0, victim.with_suffix(".log").read_text()
    assert contents(victim) == expected
    print(f"{name}: killed {killed} times")


def test_a_run_that_is_told_to_end_saves_its_round_and_goes_on_from_there(world, tmp_path):
    fields = ["--config.checkpoint_every=0", "--config.rounds=8"]
    command, workdir = [*commands(world)["train"], *fields], tmp_path / "run"
    process = start(command, workdir, world)
    for _ in changes(workdir, process):
        if (workdir / "metrics.jsonl").exists() and (workdir / "metrics.jsonl").read_text().count("\n") >= 2:
            process.send_signal(signal.SIGTERM)
            break
    assert process.wait() == os.EX_TEMPFAIL
    done = len((workdir / "metrics.jsonl").read_text().splitlines())
    assert f"stopped by SIGTERM after round {done} of 8, and saved" in workdir.with_suffix(".log").read_text()
    assert int(max((workdir / "checkpoints").glob("[0-9]*")).name) == done
    assert start(command, workdir, world).wait() == 0
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 8
