"""Checkpoints through Orbax: written in the background, whole or not at all; the last two are kept."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from profit_jax import hosts
from profit_jax.errors import InputError
from profit_jax.experiment.record import Workdir
from profit_jax.typing import Adapter, Array, Tree


class Checkpoints:
    """The checkpoints of a run: a tree of arrays by round. Without a workdir nothing is saved.

    A context manager: on leaving it, also by an error, everything handed over is on disk. Of several processes all
    call alike, and each writes and reads its own part.
    """

    def __init__(self, workdir: Workdir | None):
        self._manager = _manager(workdir.checkpoints, max_to_keep=2, create=True) if workdir else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager:
            with self._written():
                self._manager.wait_until_finished()
            self._manager.close()

    def save(self, round: int, tree: Mapping[str, Any]) -> None:
        """Saves the tree after `round` rounds."""
        if self._manager:
            with self._written():
                self._manager.save(round, args=ocp.args.StandardSave({**tree, "checksum": checksum(tree)}))

    def restore(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """The newest checkpoint as (rounds done, the parts of `like` that it has, placed as they are there), or None.

        A damaged checkpoint is passed over, with a warning, for the one before it.

        Raises:
          InputError: there are checkpoints, and none can be read.
        """
        if not self._manager:
            return None
        rounds = sorted(self._manager.all_steps(), reverse=True)
        for newest, round in enumerate(rounds):
            tree, problem = self._read(round, like)
            if not problem:
                for damaged in rounds[:newest]:  # they will be saved anew
                    self._manager.delete(damaged)
                return round, tree
            warnings.warn(f"{self._manager.directory / str(round)}: damaged, passed over ({problem})", stacklevel=2)
        if rounds:
            raise InputError(f"{self._manager.directory}: no checkpoint can be read; remove the folder to start anew")
        return None

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        assert self._manager
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise whatever a full disk makes them meet
            raise InputError(f"{self._manager.directory}: a checkpoint could not be written ({_line(error)})") from None

    def newest(self) -> int | None:
        """Rounds done at the newest checkpoint."""
        return self._manager.latest_step() if self._manager else None

    def _read(self, round: int, like: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The tree, or what is wrong with it in any of the processes."""
        assert self._manager
        tree: dict[str, Any] = {}
        problem = ""
        try:
            saved = self._manager.item_metadata(round)
            wanted = {name: part for name, part in like.items() if name in saved}
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, {**wanted, "checksum": np.zeros((), np.uint32)})
            tree = dict(self._manager.restore(round, args=ocp.args.StandardRestore(abstract)))
            problem = "" if int(tree.pop("checksum")) == int(checksum(tree)) else "its checksum is another"
        except Exception as error:  # Orbax and TensorStore raise whatever a damaged file makes them meet
            problem = _line(error)
        problems = [said.decode() for said in hosts.exchange("checkpoint", problem.encode())]
        return tree, next(filter(None, problems), "")


def read_adapter(workdir: str | Path, which: str = "best") -> Adapter:
    """The adapter that a training run has left: its `best` (by validation score, else the last) or its `last`.

    Of a run in which each client has its own it is all clients', `[n, ...]`, and of PerFIT the packed values.
    """
    tree = read_checkpoint(workdir)
    return tree["best"] if which == "best" and "best" in tree else tree["state"]["adapter"]


def read_checkpoint(workdir: str | Path) -> Mapping[str, Any]:
    """The newest checkpoint of a run as NumPy arrays, wherever it was saved.

    `state` is the algorithm's, by the names of its fields; what the run kept beside it stands beside it.

    Raises:
      InputError: the folder has none, or it is damaged.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise InputError(f"{workdir}: no checkpoints; is it the workdir of a finished training run?")
    with _manager(folder) as manager:
        round = manager.latest_step()
        if round is None:
            raise InputError(f"{workdir}: no checkpoints; is it the workdir of a finished training run?")
        try:
            like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), dict(manager.item_metadata(round)))
            tree = manager.restore(round, args=ocp.args.StandardRestore(like))
        except Exception as error:  # as above
            raise InputError(f"{folder / str(round)}: a damaged checkpoint ({_line(error)})") from None
    if int(tree.pop("checksum")) != int(checksum(tree)):
        raise InputError(f"{folder / str(round)}: a damaged checkpoint (its checksum is another)")
    return tree


@jax.jit
def checksum(tree: Tree) -> Array:
    """The sum of all 32-bit words of a tree, uint32: another if any one bit is. Exact, however the tree is sharded."""

    def words(leaf: Array) -> Array:
        octets = jax.lax.bitcast_convert_type(leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf, jnp.uint8)
        places = 256 ** jnp.arange(leaf.dtype.itemsize, dtype=jnp.uint32)
        return jnp.einsum("...k,k->", octets.reshape(*leaf.shape, -1).astype(jnp.uint32), places)

    return sum(map(words, map(jnp.asarray, jax.tree.leaves(tree))), jnp.uint32(0))


def _manager(folder: Path, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        folder,
        item_handlers=ocp.StandardCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(**options),
    )


def _line(error: Exception) -> str:
    """An error's type and the first line of what it says, shortened."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
