"""The axis legend, and the array shapes that cross module borders.

    C  clients side by side in one lane          S  local steps of a round
    B  examples in a client's local step         R  packed rows of one flight
    T  positions in a row
    J  chunks of labels in a flight              N  labels of a chunk
    K  rows of the soft prompt                   D  width of the residual stream
    L  layers                                    V  vocabulary
    H  query heads, G key-value heads, E width of a head, F width of the MLP
    M  lanes (places along the mesh axis `clients`)
    Q  flights of a step (groups of rows that are in memory together)

Shapes are written in this order wherever an array appears: `[M, S, Q, R, T]`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray  # of NumPy until it is placed on devices
Tree = Any  # a nested dict of arrays
Adapter = Mapping[
    str, Any
]  # what is trained: {"prompt": [K, D]} or {"lora": {target: {"a": [L, D, r], "b": [L, r, O]}}}
Frozen = Mapping[str, Any]  # the backbone's weights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Packed rows: a client's texts one after another, running on from one row into the next, and their labels.

    `client[r]` says whose row it is; attention is causal within a segment, which reaches over at most `span` rows, and
    sees the client's soft prompt, which stands before each. Label n of chunk j asks the hidden state at flat position
    `label_at[j, n] = r * T + t` for token `label_token[j, n]`, each position once. `label_weight` is 0 on padding, and
    otherwise such that a client's loss is the weighted sum of its labels' negative log-likelihoods.
    """

    tokens: Array  # [R, T] int32
    segments: Array  # [R, T] int32, number of the text in the flight, 0 = padding
    positions: Array  # [R, T] int32, position inside the segment
    client: Array  # [R] int32
    label_at: Array  # [J, N] int32
    label_token: Array  # [J, N] int32
    label_weight: Array  # [J, N] float32
    chunks: Array | int | None = None  # [] int32: chunks of labels to compute, the first; None: all of them
    span: int = dataclasses.field(default=1, metadata={"static": True})


Batch = tuple[Rows, ...]
"""The rows of one local step: a block for each span in use, each `[Q, ...]`, its texts dealt to flights.

Q is room; which flights are in use is said by `Cohort.chunks`, and only those are computed."""


Chunks = tuple[Array, ...]
"""Of each block, the chunks of labels in each flight, `[..., Q]` int32: 0 = it is not in use, nor those behind."""


class Queries(NamedTuple):
    """Queries to answer: one a row, from the left, each after its owner's soft prompt."""

    tokens: Array  # [R, T] int32
    length: Array  # [R] int32, positions in use, 0 = an empty row
    client: Array  # [R] int32


class Cohort(NamedTuple):
    """What a round trains on: clients dealt to lanes, their packed rows dealt to steps and flights."""

    batches: Batch  # leaves [M, S, Q, ...]; before they are placed, of this process's lanes
    counts: Array  # [M, S, C] float32: examples (or target tokens) that the client's loss of the step is a mean over;
    # 0 = the step does not exist for it
    chunks: Chunks  # [S, Q]: of the lane that has most, and so the same in all
    weight: Array  # [M, C] float32: the client's weight in the aggregate, 0 = an empty place
    client: Array  # [M, C] int32: the client's number in its data set, -1 = an empty place
