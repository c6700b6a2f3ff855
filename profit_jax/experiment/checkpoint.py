"""Checkpoints through Orbax: written in the background, whole or not at all, the last two kept."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from profit_jax.errors import InputError
from profit_jax.typing import Adapter


class Checkpoints:
    """The checkpoints of a run: a tree of arrays by round."""

    def __init__(self, folder: Path):
        self._manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, create=True))

    def save(self, round: int, tree: Any) -> None:
        """Saves the tree after `round` rounds."""
        self._manager.save(round, args=ocp.args.StandardSave(tree))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest checkpoint as (rounds done, tree with the structure of `like`), or None."""
        round = self._manager.latest_step()
        if round is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return round, self._manager.restore(round, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def read_adapter(workdir: str | Path, which: str = "best") -> Adapter:
    """The adapter that a training run has left: its `best` (by validation score, else the last) or its `last`."""
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise InputError(f"{workdir}: no checkpoints; is it the workdir of a finished training run?")
    with ocp.CheckpointManager(folder) as manager:
        round = manager.latest_step()
        if round is None:
            raise InputError(f"{workdir}: no checkpoints; is it the workdir of a finished training run?")
        return manager.restore(round, args=ocp.args.StandardRestore())[which]
