"""What a round needs of each device: memory, arithmetic, exchanges, time; from the compiled round, which never runs.

found = needs(algorithm, adapter, planned.cohort, mesh)  # the algorithm on the loss of `Backbone.abstract`
seconds = bounds(found, chip, mesh.shape)
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from profit_jax.backbone.config import BackboneConfig
from profit_jax.data.cohort import Plan
from profit_jax.errors import InputError
from profit_jax.experiment.chips import Chip
from profit_jax.experiment.program import Collective, collectives
from profit_jax.experiment.work import Work, work
from profit_jax.federated.algorithm import Algorithm
from profit_jax.federated.client import flight_gradients, with_used
from profit_jax.federated.mesh import abstract, cohort_places
from profit_jax.typing import Adapter, Cohort, Frozen, Tree, Used


class Memory(NamedTuple):
    """Bytes of one device while a round runs."""

    weights: int  # frozen
    state: int  # the adapter, optimizers, personal modules: what is kept between rounds
    cohort: int  # packed rows
    temporaries: int  # activations, gradients, clients' adapters and optimizers, padding, the program itself

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class Exchange(NamedTuple):
    """Collectives of one kind along the same axes, in one round."""

    kind: str
    axes: tuple[str, ...]
    count: float  # how often one runs
    bytes: float  # of the arrays at one device, in all


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a round needs of each device."""

    memory: Memory
    work: Work
    exchanges: tuple[Exchange, ...] | None  # None where the compiler found too little memory, so there is no program

    def fits(self, chip: Chip) -> bool:
        """Whether the chip has the memory."""
        return self.exchanges is not None and self.memory.total <= chip.memory


class Bounds(NamedTuple):
    """Seconds that a round takes at least, by each of a chip's peak rates."""

    compute: float
    memory: float
    collectives: float

    @property
    def binding(self) -> str:
        """What takes longest."""
        return max(self._fields, key=lambda field: getattr(self, field))


def needs(algorithm: Algorithm, adapter: Adapter, cohort: Cohort, mesh: Mesh) -> Needs:
    """Compiles the round for the mesh's devices, which need not be there.

    Args:
      algorithm: on the loss of an abstract backbone, `Backbone.abstract(..., mesh=mesh)`.
      adapter: where training starts; may be abstract.
      cohort: one of the run's, laid out for the mesh; only its shapes and what is in use are read.
      mesh: where the round would run.

    Raises:
      InputError: the compiler gave up for another reason than memory.
    """
    state = algorithm.abstract(adapter, mesh)
    inputs = algorithm.loss.frozen, state, abstract(cohort, cohort_places(cohort, mesh))
    weights, kept, rows = map(bytes_a_device, inputs)
    done = arithmetic(algorithm, state, cohort).times(1 / mesh.shape["model"])
    try:
        compiled = algorithm.compiled.lower(*inputs).compile()
    except jax.errors.JaxRuntimeError as error:
        return Needs(Memory(weights, kept, rows, _beyond(error) - weights - kept - rows), done, None)
    found: Any = compiled.memory_analysis()
    total = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    total += found.temp_size_in_bytes + found.generated_code_size_in_bytes
    sent = exchanges(collectives(str(compiled.as_text()), mesh.shape), *turns(cohort.used))
    return Needs(Memory(weights, kept, rows, total - weights - kept - rows), done, sent)


def bytes_a_device(tree: Tree) -> int:
    """Bytes of abstract arrays in their places, at the device that holds most."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def turns(used: Used) -> tuple[float, float]:
    """How often loops run whose length the data decide: over a step's flights, over a flight's chunks of labels."""
    chunks = np.asarray(used.chunks)
    flights = int((chunks > 0).sum())
    return flights / len(chunks), int(chunks.sum()) / flights


def arithmetic(algorithm: Algorithm, state: Any, cohort: Cohort) -> Work:
    """What one lane computes in a round: losses and gradients of the flights in use.

    Server and optimizers, which touch each parameter of an adapter a few times, are left out.
    """
    clients = jax.ShapeDtypeStruct(cohort.client.shape[1:], np.int32)
    adapters = jax.eval_shape(algorithm.adapters, state, clients)
    frozen, loss, steps = algorithm.loss.frozen, algorithm.loss, cohort.counts.shape[1]
    read = jax.eval_shape(loss.read, frozen, adapters)

    def there_and_back(frozen: Frozen, adapters: Adapter, change: Adapter) -> Adapter:
        return jax.vjp(functools.partial(loss.read, frozen), adapters)[1](change)

    flights, chunks = turns(cohort.used)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[3:], leaf.dtype), cohort.batches)
    used: Used = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), cohort.used)
    turns_taken = -(-np.asarray(cohort.used.windows) // np.array(cohort.batches.windows.together))
    each = turns_taken.sum((0, 1)) / (flights * steps)
    loops = {"chunks": chunks} | {f"windows_{kind}": number for kind, number in enumerate(each)}
    flight = work(functools.partial(flight_gradients, loss), frozen, read, with_used(one, used), turns=loops)
    return work(there_and_back, frozen, adapters, read).times(steps).plus(flight.times(flights * steps))


def model_flops(config: BackboneConfig, planned: Plan) -> float:
    """Floating-point operations that a round cannot do without, `4 N positions + 4 V D labels`.

    N are the weights of all blocks' matrices. Frozen weights have no gradient, so a position costs 2 N forward and 2 N
    backward; attention's own products, an adapter's, padding and what is computed again are left out.
    """
    labels = int((planned.cohort.batches.label_weight > 0).sum())
    return 4 * config.block_parameters * planned.real_positions + 4 * config.vocabulary * config.width * labels


def exchanges(found: list[Collective], *turns: float) -> tuple[Exchange, ...]:
    """Collectives added up by kind and axes; loops whose length the data decide make `turns`, the outermost first."""
    total: dict[tuple[str, tuple[str, ...]], tuple[float, float]] = {}
    for each in found:
        count, size = total.get((each.kind, each.axes), (0.0, 0.0))
        runs = each.count * math.prod(turns[: each.loops.count(None)])
        total[each.kind, each.axes] = (count + runs, size + runs * each.bytes)
    return tuple(Exchange(*key, *value) for key, value in sorted(total.items()))


def bounds(needs: Needs, chip: Chip, mesh: Mapping[str, int]) -> Bounds:
    """The roofline (Williams et al. 2009): each of arithmetic, memory traffic and exchanges at the chip's peak rate.

    A ring sends `(n - 1) / n` of an array past each of its n links, an all-reduce twice that. One link is counted, one
    way: a torus whose rings are closed has up to twice as much along an axis.
    """
    seconds = 0.0
    for each in needs.exchanges or ():
        ring = math.prod(mesh[axis] for axis in each.axes)
        share = 1 if each.kind.startswith("collective") else (ring - 1) / ring
        seconds += (2 if each.kind == "all-reduce" else 1) * share * each.bytes / chip.link
    return Bounds(needs.work.flops / chip.flops, needs.work.bytes / chip.bandwidth, seconds)


_BEYOND = re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM|Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm")


def _beyond(error: Exception) -> int:
    """The bytes that the compiler would have needed."""
    if not (found := _BEYOND.search(str(error))):
        raise InputError(f"the round does not compile for this mesh: {str(error).splitlines()[0]}") from None
    number, unit = (found[1], found[2]) if found[1] else (found[3], found[4])
    return int(float(number) * 1024 ** ("KMGT".index(unit) + 1))
