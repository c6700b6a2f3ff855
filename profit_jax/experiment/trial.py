"""How many positions a flight should hold: a short trial on the machine at hand, whose outcome a run keeps.

A larger flight keeps more of an accelerator busy, a smaller one stays in a CPU's caches and takes less memory:

    for each size n, from small to large:  t(n) = seconds of one flight's gradient / n
    the choice is                          the smallest n with t(n) <= (1 + 3 %) min t
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from profit_jax.data.cohort import Layout
from profit_jax.data.dealing import room_for_labels
from profit_jax.data.packing import Shape, ladder
from profit_jax.errors import InputError
from profit_jax.experiment.record import Workdir
from profit_jax.federated.algorithm import LossFunction
from profit_jax.federated.client import flight_gradients
from profit_jax.typing import Adapter, Rows, Tree, Windows

SIZES = tuple(1024 * 2**power for power in range(7))
_ALIKE = 1.03  # times that are no further apart are the same
_REPEATS = 3
_TEXT = 128  # positions of a text
_LABELLED = 8  # of so many positions one carries a label


def with_flights(layout: Layout, loss: LossFunction, adapters: Adapter, workdir: Workdir | None = None) -> Layout:
    """The layout, where it leaves `positions_per_flight` open (0) with what a trial finds best.

    Args:
      layout: of the cohorts.
      loss: what the flights compute.
      adapters: the clients' of one lane, leaves `[C, ...]`.
      workdir: where the times are kept, in flights.jsonl; a run that is found there goes on with its own choice.
    """
    if layout.positions_per_flight:
        return layout
    if jax.process_count() > 1:
        raise InputError("positions_per_flight = 0: a trial is for one process; give several the number that it finds")
    found = workdir.rows("flights") if workdir else []
    if found:
        chosen = int(found[-1]["positions_per_flight"])
    else:
        seconds = trial(loss, adapters, layout.row_width)
        chosen = best(seconds)
        if workdir:
            workdir.append("flights", {"positions_per_flight": chosen, "seconds_per_position": seconds})
    return dataclasses.replace(layout, positions_per_flight=chosen)


def trial(loss: LossFunction, adapters: Adapter, width: int, sizes: tuple[int, ...] = SIZES) -> dict[int, float]:
    """Seconds a position, of each size that was tried; it ends where two sizes bring nothing, or with the memory.

    Args:
      loss: what the flights compute.
      adapters: leaves `[C, ...]`.
      width: of the rows; a flight holds as many as fit.
      sizes: positions, ascending.
    """
    frozen, clients = loss.frozen, jax.tree.leaves(adapters)[0].shape[0]
    read = jax.jit(loss.read)(frozen, adapters)
    compute = jax.jit(functools.partial(flight_gradients, loss))
    seconds: dict[int, float] = {}
    for size in sizes:
        rows = full(max(1, size // width), width, clients)
        try:
            jax.block_until_ready(compute(frozen, read, rows))
            taken = min(_seconds(lambda rows=rows: compute(frozen, read, rows)) for _ in range(_REPEATS))
        except jax.errors.JaxRuntimeError as error:
            if seconds and "RESOURCE_EXHAUSTED" in str(error):
                break
            raise
        seconds[size] = taken / rows.tokens.size
        if is_over([*seconds.values()]):
            break
    return seconds


def is_over(times: Sequence[float]) -> bool:
    """Whether the last two sizes have brought nothing.

    >>> is_over([1.3, 1.0, 0.99]), is_over([1.3, 1.0, 0.99, 0.98])
    (False, True)
    """
    return len(times) > 2 and min(times[-2:]) * _ALIKE > min(times[:-2])


def best(seconds: dict[int, float]) -> int:
    """The smallest size that takes hardly more than the fastest.

    >>> best({1024: 1.3, 2048: 1.02, 4096: 1.0, 8192: 1.1})
    2048
    """
    return next(size for size, taken in sorted(seconds.items()) if taken <= _ALIKE * min(seconds.values()))


def full(rows: int, width: int, clients: int) -> Rows:
    """A flight without padding, of texts of about `_TEXT` positions, dealt to the clients in turn."""
    wide = max(each for each in ladder(min(rows, max(1, _TEXT // width))) if each <= rows)
    together = Shape(width, rows, wide, flights=1).together[-1]
    count = rows // wide // together * together
    row, at = jnp.arange(count * wide, dtype=jnp.int32), jnp.arange(count * wide * width, dtype=jnp.int32)
    text = jnp.arange(count, dtype=jnp.int32)
    chunks, size = room_for_labels(len(at))
    label = jnp.arange(chunks * size, dtype=jnp.int32)
    used = label < len(at) // _LABELLED
    return Rows(
        tokens=(at % 2).reshape(-1, width),
        start=row % wide * width,
        client=row // wide % clients,
        windows=Windows((text * wide,), (jnp.full(count, wide, jnp.int32),), (text % clients,), (wide,), (together,)),
        label_at=jnp.where(used, label * _LABELLED, 0).reshape(chunks, size),
        label_token=jnp.zeros((chunks, size), jnp.int32),
        label_weight=used.astype(jnp.float32).reshape(chunks, size),
        chunks=jnp.asarray(-(-len(at) // _LABELLED // size), jnp.int32),
    )


def _seconds(work: Callable[[], Tree]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started
