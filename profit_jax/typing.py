"""The axis legend, and the array shapes that cross module borders.

    C  clients side by side in one lane          S  local steps of a round
    B  examples in a client's local step         R  rows of one flight
    T  positions in a row                        W  windows of a flight, each a text's rows side by side
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
class Windows:
    """Where attention looks: each text lies in the first rows of a window, of one of a few widths w (in rows).

    There is room for more windows of each width than are `used`, which alone are computed.
    """

    first: tuple[Array, ...]  # [W] int32 of each width: a window's first row
    rows: tuple[Array, ...]  # [W] int32: of its rows, those that are the text's, the first ones; 0 = no text
    owner: tuple[Array, ...]  # [W] int32: whose text it is
    widths: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    together: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # of each width: in one turn; divides W
    used: Array | None = None  # [number of widths] int32; None: all


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Texts in whole rows, one after another, and their labels.

    `client[r]` says whose row it is; attention is causal within a text's window, and sees the client's soft prompt,
    which stands before each text. Label n of chunk j asks the hidden state at flat position
    `label_at[j, n] = r * T + t` for token `label_token[j, n]`, each position once. `label_weight` is 0 on padding, and
    otherwise such that a client's loss is the weighted sum of its labels' negative log-likelihoods.
    """

    tokens: Array  # [R, T] int32
    start: Array  # [R] int32, position of the row's first token in its text
    client: Array  # [R] int32
    windows: Windows
    label_at: Array  # [J, N] int32
    label_token: Array  # [J, N] int32
    label_weight: Array  # [J, N] float32
    chunks: Array | int | None = None  # [] int32: chunks of labels to compute, the first; None: all of them


class Queries(NamedTuple):
    """Queries to answer: one a row, from the left, each after its owner's soft prompt."""

    tokens: Array  # [R, T] int32
    length: Array  # [R] int32, positions in use, 0 = an empty row
    client: Array  # [R] int32


class Used(NamedTuple):
    """What is computed of flights: of the lane that has most, and so the same in all."""

    chunks: Array  # [S, Q] int32: chunks of labels, the first; 0 = the flight is not in use, nor those behind
    windows: Array  # [S, Q, number of widths] int32: windows of each width, the first


class Cohort(NamedTuple):
    """What a round trains on: clients dealt to lanes, their rows dealt to steps and flights."""

    batches: Rows  # leaves [M, S, Q, ...]; before they are placed, of this process's lanes
    counts: Array  # [M, S, C] float32: examples (or target tokens) that the client's loss of the step is a mean over;
    # 0 = the step does not exist for it
    used: Used  # flights, chunks of labels and windows that are computed: there is room for more
    weight: Array  # [M, C] float32: the client's weight in the aggregate, 0 = an empty place
    client: Array  # [M, C] int32: the client's number in its data set, -1 = an empty place
