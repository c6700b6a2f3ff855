"""The loss of packed rows: Profit Equation 1, for all clients of a flight at once."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from profit_jax.backbone.decoder import Decoder, visible_within
from profit_jax.backbone.tokenizer import Tokenizer
from profit_jax.typing import Adapter, Array, Frozen, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """`L_c = - sum_n w_n log P(y_n | prompt, x)` over client c's labels n (Eq. 1; the planner sets w = 1 / examples).

    The loss of a flight is the sum of its clients' losses, so its gradient with respect to the stacked adapters is
    each client's own gradient, exactly. Logits exist only where there is a label.
    """

    graph: nnx.GraphDef
    frozen: Frozen  # the weights to pass as the first argument; not read here, so a compiled round never embeds them
    tokenizer: Tokenizer | None = None  # how text becomes this loss's tokens
    remat: bool = False

    def __call__(self, frozen: Frozen, adapters: Adapter, rows: Rows) -> Array:
        """Losses of the clients, `[C]` float32. Leaves of `adapters` are `[C, ...]`."""
        model: Decoder = nnx.merge(self.graph, nnx.State(frozen))
        clients = jax.tree.leaves(adapters)[0].shape[0]
        x = model.embed(rows, adapters.get("prompt"))
        visible = visible_within(rows.segments)
        hidden, _ = model(x, rows.positions, visible, rows.client, adapters.get("lora"), remat=self.remat)
        length = hidden.shape[1]
        labelled = hidden.reshape(-1, hidden.shape[-1])[rows.label_at]
        logits = model.logits(labelled)
        # Picked by comparison, because the gradient of an index is a scatter into another array of the logits' size.
        asked = jnp.arange(logits.shape[1])[None] == rows.label_token[:, None]
        nll = jax.nn.logsumexp(logits, axis=1) - jnp.sum(jnp.where(asked, logits, 0), axis=1)
        owner = rows.client[rows.label_at // length]
        return jax.ops.segment_sum(rows.label_weight * nll, owner, num_segments=clients)
