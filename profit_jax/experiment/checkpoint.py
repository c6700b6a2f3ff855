"""Checkpoints through Orbax: written in the background, whole or not at all, the last two kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from profit_jax.errors import InputError
from profit_jax.experiment.record import Workdir
from profit_jax.typing import Adapter


class Checkpoints:
    """The checkpoints of a run: a tree of arrays by round. Without a workdir nothing is saved.

    A context manager: on leaving it, also by an error, everything handed over is on disk.
    """

    def __init__(self, workdir: Workdir | None):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(workdir.checkpoints, options=options) if workdir else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager:
            self._manager.wait_until_finished()
            self._manager.close()

    def save(self, round: int, tree: Any) -> None:
        """Saves the tree after `round` rounds."""
        if self._manager:
            self._manager.save(round, args=ocp.args.StandardSave(tree))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest checkpoint as (rounds done, tree with the structure of `like`), or None."""
        round = self._manager.latest_step() if self._manager else None
        if round is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return round, self._manager.restore(round, args=ocp.args.StandardRestore(abstract))


def read_adapter(workdir: str | Path, which: str = "best") -> Adapter:
    """The adapter that a training run has left: its `best` (by validation score, else the last) or its `last`.

    Of a run in which each client has its own it is all clients', `[n, ...]`, and of PerFIT the packed values.
    """
    tree = read_checkpoint(workdir)
    return tree["best"] if which == "best" and "best" in tree else tree["state"]["adapter"]


def read_checkpoint(workdir: str | Path) -> Mapping[str, Any]:
    """The newest checkpoint of a run: `state`, the algorithm's, by the names of its fields, and what stands beside it.

    Raises:
      InputError: the folder has none.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise InputError(f"{workdir}: no checkpoints; is it the workdir of a finished training run?")
    with ocp.CheckpointManager(folder) as manager:
        round = manager.latest_step()
        if round is None:
            raise InputError(f"{workdir}: no checkpoints; is it the workdir of a finished training run?")
        return manager.restore(round, args=ocp.args.StandardRestore())
