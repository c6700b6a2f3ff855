"""The usable instances of a release, numbered, with their texts on disk.

The release has four million instances. Their texts are read once, in file order, and afterwards in any order; in memory
are the tasks' descriptions and a few integers an instance.
"""

import array
import hashlib
import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from absl import logging

from profit_jax.data.examples import Example
from profit_jax.data.tasks import Task, read_task
from profit_jax.errors import InputError
from profit_jax.files import opened
from profit_jax.progress import Progress


class Corpus(Sequence[Example]):
    """Instances of many task files, numbered in file order; their texts lie in a nameless temporary file.

    Attributes:
      tasks: the tasks, without their instances.
      task: `[n]` int32, the task of each instance.
      types: the names of the task types, in alphabetical order.
      type: `[n]` int32, the task type of each instance.
      dropped: instances without an answer that is not blank, which are left out.
      first_dropped: the first file that has one.

    Args:
      files: the task files.
      folder: where there is room for the temporary file.

    Raises:
      InputError: as `read_task`; or two task files hold the same instance id.
    """

    def __init__(self, files: Iterable[Path], folder: str | os.PathLike[str]):
        self._texts = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 it lives as long as the corpus
        weakref.finalize(self, self._texts.close)
        offsets, owners, hashes = array.array("q", [0]), array.array("i"), array.array("q")
        tasks: list[Task] = []
        self.dropped, self.first_dropped = 0, None
        files = list(files)
        with Progress("read", len(files), "task files") as shown:
            for path in files:
                task = read_task(path)
                for instance in task.instances:
                    record = json.dumps(instance, ensure_ascii=False).encode()
                    self._texts.write(record)
                    offsets.append(offsets[-1] + len(record))
                    owners.append(len(tasks))
                    hashes.append(hash(instance.id))
                if task.dropped:
                    self.first_dropped = self.first_dropped or path.name
                    self.dropped += len(task.dropped)
                tasks.append(replace(task, instances=()))
                shown.advance()
        self._texts.flush()
        self._offsets = np.array(offsets, np.int64)
        self.tasks = tuple(tasks)
        self.task = np.array(owners, np.int32)
        self.types = tuple(sorted({task.task_type for task in tasks}))
        self.type = np.array([self.types.index(task.task_type) for task in tasks], np.int32)[self.task]
        self._check_ids(np.array(hashes, np.int64))
        if self.dropped:
            logging.warning(
                "dropped instances without an answer: %d, the first in %s", self.dropped, self.first_dropped
            )

    def _check_ids(self, hashes: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        for at in np.flatnonzero(np.diff(hashes[order]) == 0):
            first, second = self[int(order[at])], self[int(order[at + 1])]
            if first.id == second.id:
                raise InputError(f"{second.task}.json: instance id {first.id!r} is in {first.task}.json too")

    def __len__(self) -> int:
        return len(self.task)

    # pyrefly: ignore[bad-override]  no slices: instances are asked for one by one
    def __getitem__(self, instance: int) -> Example:
        start, end = self._offsets[instance], self._offsets[instance + 1]
        id_, query, targets = json.loads(os.pread(self._texts.fileno(), end - start, start))
        task = self.tasks[self.task[instance]]
        return Example(id_, query, tuple(targets), task.name, task.task_type)


def fingerprint(files: Iterable[Path]) -> str:
    """A hash of the task files' names and content: two sources with the same one give the same data set."""
    total = hashlib.sha256()
    for path in files:
        with opened(path) as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
