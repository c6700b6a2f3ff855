"""The loss of packed rows: Profit Equation 1, for all clients of a flight at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from profit_jax.backbone.decoder import Decoder
from profit_jax.backbone.tokenizer import Tokenizer
from profit_jax.typing import Adapter, Array, Frozen, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """`L_c = - sum_n w_n log P(y_n | prompt, x)` over client c's labels n (Eq. 1; the planner sets w = 1 / examples).

    The loss of a flight is the sum of its clients' losses, so its gradient with respect to the stacked adapters is
    each client's own gradient, exactly. Logits exist only where there is a label, and not all of them at once.
    """

    graph: nnx.GraphDef
    frozen: Frozen  # the weights to pass as the first argument; not read here, so a compiled round never embeds them
    tokenizer: Tokenizer | None = None  # how text becomes this loss's tokens
    remat: bool = False

    def read(self, frozen: Frozen, adapters: Adapter) -> Adapter:
        """What all rows of a step read of the adapters, leaves `[C, ...]`; see `Decoder.read`."""
        model: Decoder = nnx.merge(self.graph, nnx.State(frozen))
        return model.read(adapters, remat=self.remat)

    def __call__(self, frozen: Frozen, adapters: Adapter, rows: Rows) -> Array:
        """Losses of the clients, `[C]` float32. Leaves of `adapters`, read or not, are `[C, ...]`."""
        model: Decoder = nnx.merge(self.graph, nnx.State(frozen))
        clients = jax.tree.leaves(adapters)[0].shape[0]
        adapters, x = model.read(adapters, remat=self.remat), model.embed_tokens(rows.tokens)
        at = rows.start[:, None] + jnp.arange(rows.tokens.shape[1])[None]
        hidden, _ = model(x, at, rows.client, adapters, rows.windows, remat=self.remat)
        return surprise(self.graph, clients, frozen, hidden, rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def surprise(graph: nnx.GraphDef, clients: int, frozen: Frozen, hidden: Array, rows: Rows) -> Array:
    """`- sum_n w_n log P(token_n)` over each client's labels, from hidden states `[R, T, D]`: `[C]` float32.

    Logits exist for one chunk of labels at a time, and of chunks in use alone. Each chunk's gradient is computed beside
    its value, so that a slope of the hidden states' shape is all that the backward pass needs.
    """
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    flat = hidden.reshape(-1, hidden.shape[-1])

    def add(chunk: Array, losses: Array) -> Array:
        at, token, weight = _labels(rows, chunk)
        nll = jax.vmap(_nll, (0, None, 0))(flat[at], model, token)
        return losses + _by_client(weight * nll, at, rows, clients)

    with jax.named_scope("chunks"):
        return lax.fori_loop(0, _chunks(rows), add, jnp.zeros(clients))


def _surprise_forward(
    graph: nnx.GraphDef, clients: int, frozen: Frozen, hidden: Array, rows: Rows
) -> tuple[Array, tuple[Array, Array]]:
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    flat = hidden.reshape(-1, hidden.shape[-1])

    def add(chunk: Array, total: tuple[Array, jax.Array]) -> tuple[Array, jax.Array]:
        losses, slope = total
        at, token, weight = _labels(rows, chunk)
        nll, own = jax.vmap(jax.value_and_grad(_nll), (0, None, 0))(flat[at], model, token)
        slope = slope.at[at].add((weight[:, None] * own).astype(slope.dtype))
        return losses + _by_client(weight * nll, at, rows, clients), slope

    with jax.named_scope("chunks"):
        losses, slope = lax.fori_loop(0, _chunks(rows), add, (jnp.zeros(clients), jnp.zeros_like(flat)))
    return losses, (slope.reshape(hidden.shape), rows.client)


def _surprise_backward(
    graph: nnx.GraphDef, clients: int, saved: tuple[Array, Array], change: Array
) -> tuple[None, Array, None]:
    slope, client = saved
    return None, (slope * change[client][:, None, None]).astype(slope.dtype), None


surprise.defvjp(_surprise_forward, _surprise_backward)


def _nll(hidden: Array, model: Decoder, token: Array) -> Array:
    """Of one label: `[D]` -> `[]`."""
    logits = model.logits(hidden)
    # Picked by comparison, because the gradient of an index is a scatter into another array of the logits' size.
    return jax.nn.logsumexp(logits) - jnp.sum(jnp.where(jnp.arange(len(logits)) == token, logits, 0))


def _chunks(rows: Rows) -> Array | int:
    return rows.label_at.shape[0] if rows.chunks is None else rows.chunks


def _labels(rows: Rows, chunk: Array) -> list[Array]:
    """Where a chunk's labels stand, their tokens and their weights, `[N]` each."""
    every = rows.label_at, rows.label_token, rows.label_weight
    return [lax.dynamic_index_in_dim(leaf, chunk, keepdims=False) for leaf in every]


def _by_client(nll: Array, at: Array, rows: Rows, clients: int) -> Array:
    """Sums labels' losses: `[N]` -> `[C]`."""
    return jax.ops.segment_sum(nll, rows.client[at // rows.tokens.shape[1]], num_segments=clients)
