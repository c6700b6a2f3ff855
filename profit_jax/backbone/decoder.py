"""The frozen decoder: embedding, L stacked blocks run by one scan, output projection."""

from collections.abc import Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from profit_jax.backbone.attention import KeysValues, Looks, capped, causal
from profit_jax.backbone.config import BackboneConfig, Reach
from profit_jax.backbone.layers import Block, Linear, Norm, rotation
from profit_jax.typing import Adapter, Array, Windows


class Decoder(nnx.Module):
    """A decoder-only language model. Weights of all layers are stacked: leaves of `blocks` are `[L, ...]`."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stacked(rngs: nnx.Rngs) -> Block:
            return Block(config, dtype=dtype, rngs=rngs)

        self.config = config
        self.embedding = nnx.Embed(config.vocabulary, config.width, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.blocks = stacked(rngs)
        self.norm = Norm(config.width, config, dtype=dtype, rngs=rngs)
        if not config.tied_embeddings:
            self.head = Linear("head", config.width, config.vocabulary, config, dtype=dtype, rngs=rngs)

    def quantize(self) -> None:
        """Keeps all matrices in int8 but the embedding table, which is looked up, and so no head that is tied to it."""
        for _, module in nnx.iter_modules(self):
            if isinstance(module, Linear):
                module.quantize()

    def embed_tokens(self, tokens: Array) -> Array:
        """What the first block reads of tokens: `[...]` int -> `[..., D]`."""
        return self.embedding(jnp.asarray(tokens)) * self.config.embedding_scale

    def read(self, adapters: Adapter, remat: bool = False) -> Adapter:
        """Adapters as rows read them: of a soft prompt `[C, K, D]` its keys and values, leaves `[C, L, G, K, E]`.

        A prompt stands before every text and so sees none of them: its keys and values are the same for all of a
        client's rows. It is in the space of the scaled embeddings. What has been read already stays as it is.
        """
        if "prompt" not in adapters:
            return adapters
        prompt = adapters["prompt"].astype(self.embedding.dtype)
        others = {name: leaves for name, leaves in adapters.items() if name != "prompt"}
        clients, length = prompt.shape[:2]
        at = jnp.broadcast_to(jnp.arange(length), (clients, length))
        _, own = self(prompt, at, jnp.arange(clients), others, remat=remat)
        # In float32, since the gradients of many rows are summed in it.
        return {**others, "prefix": jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).astype(jnp.float32), own)}

    def __call__(
        self,
        x: Array,  # [R, T, D]
        positions: Array,  # [R, T], counted from the end of the prompt; [1, T] where rows do not differ
        client: Array,  # [R]
        adapters: Adapter = MappingProxyType({}),  # as `read` leaves them: leaves [C, L, ...]
        windows: Windows | None = None,  # of texts of several rows; None: every row is a text
        visible: Array | None = None,  # of rows [R, T, S] bool, S counts `past` first; a prompt is seen by all;
        # None: attention is causal
        past: tuple[KeysValues, ...] = (),  # leaves [L, R, G, ., E]
        past_positions: Array | None = None,  # [R, S - T], where the keys in `past` stand
        remat: bool = False,
        only_keys_values: bool = False,
    ) -> tuple[Array, KeysValues]:
        """Runs all blocks; returns hidden states before the last norm and every layer's own keys and values.

        With `only_keys_values` the last block does no more than these take, and the hidden states are those before it.
        """
        block, weights = nnx.split(self.blocks)
        by_layer = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), dict(adapters))
        prefix = by_layer.pop("prefix", None)
        ahead = 0 if prefix is None else prefix[0].shape[3]
        length = x.shape[1]
        standing = [positions] if windows is None else [jnp.arange(wide * length)[None] for wide in windows.widths]
        reach = self.config.reach
        kinds = list(dict.fromkeys(reach))
        masks = [_masks(kinds, at, ahead, visible, past_positions) for at in standing]

        def sight(number: int, kind: Reach) -> tuple[tuple[Array, Array], list[Array | None]]:
            """The angles and the masks of the layers that reach so far."""
            turn = rotation(positions + ahead, jnp.asarray(kind.rope.frequencies(self.config.head_width)))
            return turn, [of_kinds[number] for of_kinds in masks]

        # Made once for each kind of layer; inside the scan a layer takes its kind's. Most models have one kind.
        sights = [sight(number, kind) for number, kind in enumerate(kinds)]
        which = None if len(kinds) == 1 else jnp.asarray([kinds.index(kind) for kind in reach], jnp.int32)

        def layer(x: Array, stacked: tuple) -> tuple[Array, KeysValues]:
            weights, adapters, prefix, past, which, last = stacked
            lora = jax.tree.map(lambda leaf: of_rows(leaf, client), adapters).get("lora", {})
            turn, seen = (
                sights[0] if which is None else jax.tree.map(lambda *kinds: lax.select_n(which, *kinds), *sights)
            )
            before = past if prefix is None else (prefix if windows else _of_rows(prefix, client, x.dtype), *past)
            module, looks = nnx.merge(block, weights), Looks(before, seen, windows)

            def whole() -> tuple[Array, KeysValues]:
                return module(x, turn, looks, lora)

            # A branch, since a scan over all layers but one would hold a copy of their weights.
            return whole() if last is None else lax.cond(last, lambda: (x, module.keys_values(x, turn, lora)), whole)

        last = jnp.arange(len(reach)) == len(reach) - 1 if only_keys_values else None
        return lax.scan(jax.checkpoint(layer) if remat else layer, x, (weights, by_layer, prefix, past, which, last))

    def logits(self, hidden: Array) -> Array:
        """Last norm and output projection: `[..., D]` -> `[..., V]` float32."""
        hidden = self.norm(hidden)
        scores = self.embedding.attend(hidden) if self.config.tied_embeddings else self.head(hidden)
        return capped(scores.astype(jnp.float32), self.config.logit_cap)


@jax.custom_vjp
def of_rows(leaf: Array, client: Array) -> Array:
    """Each row's own adapter: `[C, ...]` and clients `[R]` -> `[R, ...]`. The gradient sums a client's rows."""
    return leaf[client]


def _of_rows_forward(leaf: Array, client: Array) -> tuple[Array, tuple]:
    return leaf[client], (client, jnp.arange(leaf.shape[0]))


def _of_rows_backward(saved: tuple, rows: Array) -> tuple[Array, None]:
    # Autodiff's scatter-add runs serially on CPUs; as a product it is exact too, at the highest precision.
    client, clients = saved
    owner = clients[:, None] == client[None]
    # A row that is not finite would spoil all clients' sums, as 0 x nan is nan: it spoils its own client's alone.
    lost = ~jnp.isfinite(rows).all(tuple(range(1, rows.ndim)))
    counted = jnp.where(_along(lost, rows), 0, rows)
    sums = jnp.einsum("cr,r...->c...", owner.astype(rows.dtype), counted, precision=lax.Precision.HIGHEST)
    return jnp.where(_along((owner & lost[None]).any(1), sums), jnp.inf, sums), None


def _along(flags: Array, values: Array) -> Array:
    """`[R]` -> `[R, 1, ...]`, to be read beside values `[R, ...]`."""
    return flags.reshape(flags.shape + (1,) * (values.ndim - 1))


of_rows.defvjp(_of_rows_forward, _of_rows_backward)


def _of_rows(prefix: KeysValues, client: Array, dtype: jnp.dtype) -> KeysValues:
    """Each row's prompt, as its keys and values: `[C, G, K, E]` and clients `[R]` -> `[R, G, K, E]`."""
    keys, values = (of_rows(leaf, client).astype(dtype) for leaf in prefix)
    return keys, values


def _masks(
    kinds: Sequence[Reach], at: Array, ahead: int, visible: Array | None, past_at: Array | None
) -> list[Array | None]:
    """What queries at `at` `[R, T]` see in layers of each kind; None where that is all that is not behind them."""
    reached = ahead + at.shape[1] + (0 if past_at is None else past_at.shape[1])
    if visible is not None:
        visible = jnp.pad(visible, ((0, 0), (0, 0), (ahead, 0)), constant_values=True)
    elif all(kind.window is None or kind.window >= reached for kind in kinds):
        return [None] * len(kinds)
    else:
        visible = jnp.broadcast_to(causal(at.shape[1], reached), (at.shape[0], at.shape[1], reached))
    before = [jnp.broadcast_to(jnp.arange(ahead), (at.shape[0], ahead))]
    before += [] if past_at is None else [past_at + ahead]
    distance = (at + ahead)[:, :, None] - jnp.concatenate([*before, at + ahead], axis=1)[:, None]
    return [visible if kind.window is None else visible & (distance < kind.window) for kind in kinds]
