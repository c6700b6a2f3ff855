"""Pretraining a small decoder: its tokenizer, its loss on packed documents, and the compiled step.

Elsewhere in this library the backbone is frozen; here, and only here, its weights train. The loop around the step is
`profit_jax.experiment.pretrain`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Bpe
from transformers import PreTrainedTokenizerFast

from profit_jax.backbone.attention import causal
from profit_jax.backbone.config import BackboneConfig
from profit_jax.backbone.decoder import Decoder
from profit_jax.backbone.model import Backbone
from profit_jax.backbone.tokenizer import Tokenizer
from profit_jax.errors import InputError
from profit_jax.rng import generator
from profit_jax.typing import Array, Frozen

END = "</s>"
_ALIKE = 0.5  # size of W_q and W_k at the start: a position prefers its like by a few nats

# Words take the space before them along; digits and line breaks stand alone, so that numbers have one spelling.
_PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]|[^\S\r\n]+(?!\S)|\s"


class Packed(NamedTuple):
    """Whole documents side by side in rows. The token at position t is asked for `targets[r, t]`, the one after it."""

    tokens: Array  # [R, T] int32
    targets: Array  # [R, T] int32
    segments: Array  # [R, T] int32, 0 = padding
    positions: Array  # [R, T] int32, position inside the segment
    weights: Array  # [R, T] float32: what the target counts in the loss; 0 on padding


def bpe(texts: Iterable[str], size: int) -> Tokenizer:
    """Trains a byte-level BPE of at most `size` tokens; `</s>`, id 0, closes a text and nothing opens one.

    A text's first word is spelled as any other, with a space before it: what is copied from the middle of a query to
    the start of an answer is the same token in both. Decoding takes that space away again.

    >>> tokenizer = bpe(["red and blue and 12\\n"] * 9, size=300)
    >>> [tokenizer.inner.decode([token]) for token in tokenizer.encode(["blue and 12"])[0]]
    ['blue', 'and', '', '1', '2']
    >>> tokenizer.decode(tokenizer.encode(["no word: 12 é\\n"])[0])
    'no word: 12 é\\n'
    """
    inner = Bpe(models.BPE())
    inner.normalizer = normalizers.Prepend(" ")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END), (), 0, inner.get_vocab_size())


def start(config: BackboneConfig, tokenizer: Tokenizer, *, seed: int) -> Backbone:
    """Random weights with which attention copies from the first step on (Trockman and Kolter 2023).

    In each layer `W_q = W_k` and `W_o = c W_v^T` are orthogonal up to scale: a position looks at its like, and adds
    what it sees to what it says. What a block adds to the residual stream starts smaller by sqrt(2 L) (Radford et al.
    2019).

    Raises:
      InputError: attention whose heads do not fill the width, or that shares key-value heads.
    """
    if not config.heads == config.key_value_heads == config.width / config.head_width:
        raise InputError("pretraining wants as many key-value heads as heads, which together have the width")
    model, draw = Backbone.random(config, seed=seed, tokenizer=tokenizer), generator(seed, "attention")
    frozen = jax.tree.map(np.array, jax.device_get(model.frozen))
    attention, added = frozen["blocks"]["attention"], (2 * config.layers) ** -0.5
    for layer in range(config.layers):
        looks, says = (np.linalg.qr(draw.normal(size=(config.width, config.width)))[0] for _ in range(2))
        attention["q"]["kernel"][layer] = attention["k"]["kernel"][layer] = _ALIKE * looks
        attention["v"]["kernel"][layer] = added**0.5 * says
        attention["o"]["kernel"][layer] = added**0.5 * says.T
    frozen["blocks"]["mlp"]["down"]["kernel"] *= added
    return dataclasses.replace(model, frozen=jax.tree.map(jnp.asarray, frozen))


def loss(graph: nnx.GraphDef, weights: Frozen, packed: Packed) -> tuple[Array, Array]:
    """Sum of the weighted negative log-likelihoods of all targets, in nats, and the sum of their weights: `[]` each."""
    model: Decoder = nnx.merge(graph, nnx.State(weights))
    rows = jnp.zeros(packed.tokens.shape[0], jnp.int32)
    visible = visible_within(packed.segments)
    hidden, _ = model(model.embed_tokens(packed.tokens), packed.positions, rows, visible=visible)
    logits = model.logits(hidden)
    # Picked by comparison, as in `Loss`: the gradient of an index is a scatter.
    asked = jnp.arange(logits.shape[-1])[None, None] == packed.targets[..., None]
    nll = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(asked, logits, 0), axis=-1)
    return jnp.sum(packed.weights * nll), jnp.sum(packed.weights)


def visible_within(segments: Array) -> Array:
    """Causal attention within a segment: `[R, T]` -> `[R, T, T]` bool. Padding (segment 0) sees only padding."""
    length = segments.shape[1]
    return (segments[:, :, None] == segments[:, None]) & causal(length, length)


def adamw(
    *, learning_rate: float, steps: int, warmup: int, b2: float, weight_decay: float, clip: float
) -> optax.GradientTransformation:
    """AdamW on gradients clipped by their global norm; the rate rises for `warmup` steps and falls to 0 as a cosine.

    Every weight decays but the scales of norms.
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, steps)

    def decays(weights: Frozen) -> Frozen:
        return jax.tree.map_with_path(lambda path, _: path[-1].key != "scale", weights)

    adam = optax.adamw(rate, b1=0.9, b2=b2, weight_decay=weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(clip), adam)


Step = Callable[[Frozen, optax.OptState, Packed], tuple[Frozen, optax.OptState, Array]]


def make_step(graph: nnx.GraphDef, optimizer: optax.GradientTransformation) -> Step:
    """The compiled step `(weights, state, packed) -> (weights, state, loss)`; weights and state are donated.

    Its loss is the weighted mean over the targets of the rows, in nats.
    """

    def mean(weights: Frozen, packed: Packed) -> Array:
        total, weight = loss(graph, weights, packed)
        return total / jnp.maximum(weight, 1e-9)

    def step(weights: Frozen, state: optax.OptState, packed: Packed) -> tuple[Frozen, optax.OptState, Array]:
        value, gradient = jax.value_and_grad(mean)(weights, packed)
        updates, state = optimizer.update(gradient, state, weights)
        after: Any = optax.apply_updates(weights, updates)
        return after, state, value

    return jax.jit(step, donate_argnums=(0, 1))
