"""From the task files of a release to the federated data sets on disk (Profit, Section 3 and Figure 2).

task files → corpus → task types to splits → instances to clients → one store a partition, and statistics
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from profit_jax.data import metadata, partition, statistics, store, tasks
from profit_jax.data.corpus import Corpus, fingerprint
from profit_jax.data.partition import Partition
from profit_jax.data.splits import TypeSplit, split_types
from profit_jax.errors import InputError
from profit_jax.files import make_folder


@dataclass(frozen=True)
class Prepared:
    """A partition on disk: its folder, whether it was there before, and what it holds."""

    folder: Path
    reused: bool
    report: store.Report


@dataclass(frozen=True)
class Settings:
    """What decides a data set. `source` is the fingerprint of the task files."""

    chunk_size: int
    split: str
    seed: int
    source: str


def prepare(
    source_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    *,
    partitions: Sequence[str] = partition.PARTITIONS,
    chunk_size: int = 1200,
    split: str = "paper",
    seed: int = 0,
) -> dict[str, Prepared]:
    """Writes partitions to `<data_dir>/federated_sni/<partition>`, and `statistics.json` beside them.

    Validation and test clients are cut as in HHF, the same for all partitions. All partitions of a data folder share
    their settings; one that is there already is reused. An interrupted call is continued by the next.

    Args:
      source_dir: the folder `tasks` of a release, or its parent.
      data_dir: where the data sets go.
      partitions: any of `hhf`, `mhf`, `lhf`.
      chunk_size: instances of a client, about; see `profit_jax.data.partition`.
      split: how task types are split, `paper` or `random`; see `profit_jax.data.splits`.
      seed: of the shuffles, and of the random split.

    Raises:
      InputError: bad task files or settings; a split without clients; partitions of other settings in `data_dir`.
    """
    for name in partitions:
        if name not in partition.PARTITIONS:
            raise InputError(f"unknown partition {name!r}: give some of {', '.join(partition.PARTITIONS)}")
    if not partitions:
        raise InputError(f"no partition to prepare: give some of {', '.join(partition.PARTITIONS)}")
    partition.check_chunk_size(chunk_size)
    files = tasks.task_files(source_dir)
    root = Path(data_dir) / store.Builder.name
    settings = Settings(chunk_size, split, seed, fingerprint(files))
    present = _present(root, settings)
    if missing := [name for name in dict.fromkeys(partitions) if name not in present]:
        make_folder(root)
        _write(Corpus(files, root), data_dir, missing, settings)
    written = {name: metadata.read(root / name / store.VERSION) for name in partition.PARTITIONS}
    reports = {name: store.Report(**found["report"]) for name, found in written.items() if found}
    statistics.write(root / "statistics.json", {name: report.statistics for name, report in reports.items()})
    return {name: Prepared(root / name, name in present, reports[name]) for name in dict.fromkeys(partitions)}


def _present(root: Path, settings: Settings) -> set[str]:
    """The partitions that are there, after a check that they have these settings."""
    present = set()
    asked = asdict(settings)
    for name in partition.PARTITIONS:
        if found := metadata.read(root / name / store.VERSION):
            made = found["settings"]
            differing = [f"{key}={made[key]}, not {asked[key]}" for key in asked if made[key] != asked[key]]
            if made["source"] != settings.source:
                differing = ["other task files"]
            if differing:
                raise InputError(f"{root / name} was prepared with {'; '.join(differing)}: give another data_dir")
            present.add(name)
    return present


def _write(corpus: Corpus, data_dir: str | os.PathLike[str], partitions: list[str], settings: Settings) -> None:
    counts = dict(zip(corpus.types, np.bincount(corpus.type, minlength=len(corpus.types)).tolist()))
    chosen = split_types(corpus.types, settings.split, settings.seed)
    small = _too_small(chosen, counts, settings.chunk_size)
    members = {
        name: np.flatnonzero(np.isin(corpus.type, [corpus.types.index(kind) for kind in getattr(chosen, name)]))
        for name in ("train", "validation", "test")
    }

    def cut(split: str, partition_name: str) -> Partition:
        mine = members[split]
        made = partition.cut(partition_name, corpus.type[mine], corpus.task[mine], settings.chunk_size, settings.seed)
        return made._replace(order=mine[made.order])

    for name in partitions:
        clients = {"train": cut("train", name), "validation": cut("validation", "hhf"), "test": cut("test", "hhf")}
        for split in clients:
            _check_clients(split, clients[split], getattr(chosen, split), counts, settings)
        counted = {
            split: statistics.task_counts(made, corpus.task, len(corpus.tasks)) for split, made in clients.items()
        }
        report = store.Report(
            tasks=len(corpus.tasks),
            instances=len(corpus),
            dropped=corpus.dropped,
            first_dropped=corpus.first_dropped,
            task_types={split: list(kinds) for split, kinds in chosen._asdict().items()},
            too_small=small,
            statistics=statistics.record(counted, corpus.tasks),
        )
        described: dict[str, Any] = {
            "settings": {"partition": name, **asdict(settings)},
            "report": asdict(report),
            "tasks": {task.name: task.description() for task in corpus.tasks},
        }
        store.write(name, data_dir, corpus, clients, described)


def _too_small(chosen: TypeSplit, counts: dict[str, int], chunk_size: int) -> dict[str, int]:
    kinds = (*chosen.train, *chosen.validation, *chosen.test)
    small = {kind: counts[kind] for kind in kinds if not partition.clients_of(counts[kind], chunk_size)}
    if small:
        largest = max(small, key=small.__getitem__)
        logging.warning(
            "left out %d of %d task types, too small for one client; the largest is %s with %d instances",
            len(small),
            len(kinds),
            largest,
            small[largest],
        )
    return small


def _check_clients(
    split: str, clients: Partition, kinds: Sequence[str], counts: dict[str, int], settings: Settings
) -> None:
    if clients.clients:
        return
    if not kinds:
        raise InputError(
            f"no {split} clients: split {settings.split!r} finds no {split} task type among the {len(counts)} of the "
            "source; take more task files or another split"
        )
    largest = max(kinds, key=counts.__getitem__)
    raise InputError(
        f"no {split} clients of chunk_size {settings.chunk_size}: the largest {split} task type, {largest!r}, has "
        f"{counts[largest]} instances; take a smaller chunk_size"
    )
