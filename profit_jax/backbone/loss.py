"""The loss of packed rows: Profit Equation 1, for all clients of a flight at once."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from profit_jax.backbone.decoder import Decoder, visible_within
from profit_jax.backbone.tokenizer import Tokenizer
from profit_jax.typing import Adapter, Array, Frozen, Rows, Tree

_LOGITS_AT_ONCE = 2**25  # 128 MiB in float32


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
        visible = visible_within(rows.segments)
        hidden, _ = model(x, rows.positions, visible, rows.client, adapters, remat=self.remat)
        length = hidden.shape[1]
        labelled = hidden.reshape(-1, hidden.shape[-1])[rows.label_at]
        nll = surprise(self.graph, frozen, labelled, rows.label_token)
        owner = rows.client[rows.label_at // length]
        return jax.ops.segment_sum(rows.label_weight * nll, owner, num_segments=clients)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def surprise(graph: nnx.GraphDef, frozen: Frozen, hidden: Array, tokens: Array) -> Array:
    """`- log P(token)` of each label from its hidden state: `[N, D]` and `[N]` -> `[N]` float32.

    Logits exist for a chunk of labels at a time. Each chunk's gradient is computed beside its value, so that `[N, D]`
    is all that the backward pass needs; there is none of the weights.
    """
    return _in_chunks(_nll, graph, frozen, hidden, tokens)


def _surprise_forward(graph: nnx.GraphDef, frozen: Frozen, hidden: Array, tokens: Array) -> tuple[Array, Array]:
    return _in_chunks(jax.value_and_grad(_nll), graph, frozen, hidden, tokens)


def _surprise_backward(graph: nnx.GraphDef, slope: Array, change: Array) -> tuple[None, Array, None]:
    return None, (slope * change[:, None]).astype(slope.dtype), None


surprise.defvjp(_surprise_forward, _surprise_backward)


def _nll(hidden: Array, model: Decoder, token: Array) -> Array:
    """Of one label: `[D]` -> `[]`."""
    logits = model.logits(hidden)
    # Picked by comparison, because the gradient of an index is a scatter into another array of the logits' size.
    return jax.nn.logsumexp(logits) - jnp.sum(jnp.where(jnp.arange(len(logits)) == token, logits, 0))


def _in_chunks(
    work: Callable[[Array, Decoder, Array], Tree], graph: nnx.GraphDef, frozen: Frozen, hidden: Array, tokens: Array
) -> Tree:
    """`work(hidden, model, token)` of each label."""
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    size = max(1, min(len(tokens), _LOGITS_AT_ONCE // model.config.vocabulary))
    return jax.lax.map(lambda label: work(label[0], model, label[1]), (hidden, tokens), batch_size=size)
