"""Writers show a run's records elsewhere while it goes on: in TensorBoard, in Weights & Biases.

They get nothing but what the workdir's JSONL files hold: of metrics.jsonl every number, of clients.jsonl the means over
clients, by round or epoch. Those files remain the record; the others can be thrown away and made again.

    pj.Workdir("runs/a", config, writers=[TensorBoard()])
"""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from profit_jax.errors import InputError
from profit_jax.files import make_folder, read_text, write_whole

SHOWN = ("metrics", "clients")  # the records that have points
_SCORES = ("local", "global", "train_loss")  # of clients.jsonl, what there are means of


class Point(NamedTuple):
    """Numbers at a step."""

    step: int  # the round, or the epoch of stage 2
    numbers: dict[str, float]


class Writer(Protocol):
    """What a workdir asks of a writer. Of a job of several processes the first one's alone is asked."""

    def open(self, workdir: Path, config: Mapping[str, Any]) -> None:
        """Begins, or goes on, with the run in this workdir."""

    def add(self, points: Sequence[Point]) -> None:
        """Shows more points."""

    def renew(self, points: Sequence[Point]) -> None:
        """Shows these points and no others: all that the run has, when it begins or goes on."""


def points(name: str, rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """What is shown of rows of `name`.jsonl.

    >>> points("metrics", [{"round": 3, "loss": 0.5, "validation_score": [0.1, 0.2]}])
    [Point(step=3, numbers={'loss': 0.5, 'validation_score/0': 0.1, 'validation_score/1': 0.2})]
    """
    if name == "metrics":
        return [Point(row["round"], dict(_numbers(row))) for row in rows]
    return _means(rows) if name == "clients" else []


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a round; of settings side by side each one's, with its place among them."""
    for name, value in row.items():
        if isinstance(value, list):
            yield from ((f"{name}/{place}", each) for place, each in enumerate(value))
        elif name != "round":
            yield name, value


def _means(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Plain means over clients, by evaluation point: `epoch/local`, `average 0.5/global`."""
    by_point: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        point = f"average {row['alpha']:g}" if row["point"] == "average" else row["point"]
        by_point.setdefault((row["epoch"], point), []).append(row)
    shown = []
    for (epoch, point), own in by_point.items():
        values = {score: [row[score] for row in own if row[score] is not None] for score in _SCORES}
        means = {f"{point}/{score}": float(np.mean(given)) for score, given in values.items() if given}
        shown.append(Point(epoch, means))
    return shown


class TensorBoard:
    """Event files in `<workdir>/tensorboard`; `tensorboard --logdir=runs` shows all runs of a folder.

    A run that goes on has its events written anew from its records, so that none is missing or there twice.

    Raises:
      InputError: the package `tensorboard` (extra `tensorboard`) is not installed.
    """

    def __init__(self):
        try:
            from tensorboard.summary import Writer as EventWriter
        except ImportError as error:
            raise _lacking("TensorBoard", error) from None
        self._make: Callable[[str], Any] = EventWriter
        self._events: Any = None  # until the records that there are have been read

    def open(self, workdir: Path, config: Mapping[str, Any]) -> None:
        """As `Writer` says; the config is in config.json."""
        del config
        self._folder = workdir / "tensorboard"

    def add(self, points: Sequence[Point]) -> None:
        """As `Writer` says; on disk when this returns."""
        for point in points:
            for name, value in point.numbers.items():
                self._events.add_scalar(name, value, point.step)
        self._events.flush()

    def renew(self, points: Sequence[Point]) -> None:
        """As `Writer` says."""
        if self._events:
            self._events.close()
        for file in self._folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._events = self._make(str(self._folder))
        self.add(points)


class WandB:
    """A run of Weights & Biases, which keeps its files in `<workdir>/wandb` and is the same when the run goes on.

    Mode, project, entity and key are those of its environment variables (WANDB_MODE, WANDB_PROJECT, …). Where W&B has
    points already, they are not sent again: a run that goes on computes the same. It cannot tell in mode offline, in
    which each process leaves the whole run; `wandb sync` the last one.

    Raises:
      InputError: the package `wandb` (extra `wandb`) is not installed.
    """

    def __init__(self):
        try:
            import wandb
        except ImportError as error:
            raise _lacking("Weights & Biases", error) from None
        self._wandb = wandb

    def open(self, workdir: Path, config: Mapping[str, Any]) -> None:
        """As `Writer` says.

        Raises:
          InputError: W&B refuses, for want of a key or of a network.
        """
        make_folder(workdir / "wandb")
        name = workdir / "wandb" / "run_id"
        if not name.exists():
            write_whole(name, secrets.token_hex(4))
        try:
            self._run = self._wandb.init(
                project=os.environ.get("WANDB_PROJECT", "profit-jax"),
                name=workdir.name,
                id=read_text(name),
                resume="allow",
                dir=str(workdir),
                config=dict(config),
                settings=self._wandb.Settings(console="off"),  # what is printed stays on this terminal
            )
        except self._wandb.Error as error:
            raise InputError(f"Weights & Biases: {error}; WANDB_MODE=offline needs neither key nor network") from None
        self._step = self._run.step  # the next one that W&B takes

    def add(self, points: Sequence[Point]) -> None:
        """As `Writer` says."""
        for point in points:
            if point.step >= self._step:
                self._run.log(point.numbers, step=point.step)
                self._step = point.step

    renew = add  # W&B has no way to take points back


def _lacking(what: str, error: ImportError) -> InputError:
    package = (error.name or "").partition(".")[0]
    return InputError(f"{what} needs {package}: pip install 'profit-jax[{package}]'")
