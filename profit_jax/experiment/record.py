"""A workdir: the resolved config, the records, the checkpoints of one run. Nothing in it is written over.

config.json     the resolved config
environment.json  versions and machine of the process that began the run
metrics.jsonl   a line for each round or step
cohorts.jsonl   a line for each round: who took part, who was left out, losses, bytes sent and received
clients.jsonl   a line for each client and evaluation point of Profit's stage 2
perplexity.jsonl  a line for each client and evaluated round, of PerFIT
shapes.jsonl    the compiled shape that each round took
checkpoints/    Orbax
lock            held by the process that runs in it
figures/        PNG and PDF
tensorboard/, wandb/  what writers made of the records
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profit_jax import hosts
from profit_jax.errors import InputError
from profit_jax.experiment.environment import environment
from profit_jax.experiment.writers import SHOWN, Writer, points
from profit_jax.files import make_folder, read_lines, read_object, write_arrays, write_whole

_locks: dict[Path, int] = {}  # kept open: a process's lock goes with any file of that name that it closes


class Workdir:
    """Opens a workdir for a run with this config: a new or empty folder, or one that the same config has begun.

    Args:
      path: the folder.
      config: the run's.
      writers: what shows the records elsewhere, while they are written; a writer is for one workdir.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], writers: Sequence[Writer] = ()):
        self.path = Path(path)
        self._writers = writers
        hosts.by_first("workdir", lambda: self._open(json.loads(json.dumps(config))))  # as it will be read back

    def _open(self, config: dict[str, Any]) -> None:
        file = self.path / "config.json"
        if file.exists():
            begun = read_object(file, "choose another --workdir")
            different = [name for name, value in _fields(config) if dict(_fields(begun)).get(name, ...) != value]
            different += [name for name, _ in _fields(begun) if name not in dict(_fields(config))]
            if different:
                raise InputError(f"{self.path} holds a run with another {different[0]}; choose another --workdir")
        elif self.path.exists() and (not self.path.is_dir() or not _untouched(self.path)):
            raise InputError(f"{self.path} is not empty and holds no run; choose another --workdir")
        else:
            make_folder(self.path)
            # The config last: a folder that has one is a run that has begun.
            write_whole(self.path / "environment.json", json.dumps(environment(), indent=1) + "\n")
            write_whole(file, json.dumps(config, indent=1) + "\n")
        _lock(self.path / "lock")
        for writer in self._writers:
            writer.open(self.path, config)
        self._renew()

    def append(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Appends rows to `name`.jsonl, a JSON object a line; without any there is no file."""
        if not rows or not hosts.first():
            return
        with open(self.path / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        if self._writers and (new := points(name, rows)):
            for writer in self._writers:
                writer.add(new)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of `name`.jsonl; a last line that was cut off when the run was killed does not count."""
        file = self.path / f"{name}.jsonl"
        return [*read_lines(file, appended=True).objects.values()] if file.exists() else []

    def keep(self, name: str, wanted: Any) -> None:
        """Rewrites `name`.jsonl with the rows for which `wanted(row)` holds: a resumed run drops what it does again."""

        def rewrite() -> None:
            if (self.path / f"{name}.jsonl").exists():
                kept = [json.dumps(row) + "\n" for row in self.rows(name) if wanted(row)]
                write_whole(self.path / f"{name}.jsonl", "".join(kept))
            if name in SHOWN:
                self._renew()

        hosts.by_first("records", rewrite)

    def _renew(self) -> None:
        """Lets the writers show what the records hold, and nothing else."""
        for writer in self._writers:
            writer.renew([point for name in SHOWN for point in points(name, self.rows(name))])

    def write(self, name: str, text: str) -> None:
        """Writes a file so that it is either as it was or whole."""
        if hosts.first():
            write_whole(self.path / name, text)

    def write_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Writes a NumPy archive, as `write` does a text."""
        if hosts.first():
            write_arrays(self.path / name, **arrays)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path.absolute() / "checkpoints"


def _untouched(folder: Path) -> bool:
    """Whether a folder holds nothing, or only what a process that was stopped at once has left."""
    left = ("environment.json", "lock")
    return all(file.name in left or file.name.endswith(".part") for file in folder.iterdir())


def _lock(file: Path) -> None:
    """Makes sure that no other process runs in this workdir, for as long as this process lives."""
    name = file.resolve()
    if name not in _locks:
        _locks[name] = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(_locks[name], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{file.parent}: another process is running in it; wait for its end, or stop it") from None


def _fields(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
