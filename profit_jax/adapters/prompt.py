"""The soft prompt P `[K, D]` (Lester et al. 2021; Profit Appendix A): rows in embedding space, put before the query."""

from typing import Any, Literal, Protocol

import jax.numpy as jnp
import numpy as np

from profit_jax import rng
from profit_jax.errors import InputError
from profit_jax.typing import Adapter, Array, Frozen


class Embedded(Protocol):
    """What a prompt needs of a backbone: its embeddings and, for text, its tokenizer."""

    @property
    def frozen(self) -> Frozen:
        """Its weights."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Text to tokens, or None."""
        ...

    def embed(self, tokens: Array) -> Array:
        """What the first block reads of tokens: `[...]` int -> `[..., D]`."""
        ...


def soft_prompt(
    backbone: Embedded,
    *,
    length: int = 10,
    init: Literal["gaussian", "words", "text"] = "gaussian",
    seed: int = 0,
    text: str = "",
) -> Adapter:
    """A soft prompt of `length` rows, `{"prompt": [K, D]}` float32.

    Args:
      backbone: whose embedding space the prompt lives in.
      length: K, the number of rows.
      init: `gaussian`, every element from N(0, 0.25), variance 0.25 (Profit Appendix C); `words`, the embeddings of
        K tokens drawn without replacement ("random word", Section 4); `text`, the embeddings of `text`, repeated or
        cut to K rows.
      seed: of the draw.
      text: for `init="text"`.

    >>> import profit_jax as pj
    >>> prompt = soft_prompt(pj.Backbone.load("tiny"), length=10)
    >>> prompt["prompt"].shape, round(float(prompt["prompt"].std()), 1)
    ((10, 192), 0.5)
    """
    rows, width = backbone.frozen["embedding"]["embedding"].shape
    if length < 1:
        raise InputError(f"a soft prompt needs at least one row, not {length}")
    generator = rng.generator(seed, "prompt")
    if init == "gaussian":
        prompt = generator.normal(0.0, np.sqrt(0.25), (length, width))
    elif init == "words":
        if length > rows:
            raise InputError(f"a prompt of {length} random words needs as many tokens; the vocabulary has {rows}")
        prompt = backbone.embed(generator.choice(rows, length, replace=False))
    elif init == "text":
        tokens = backbone.tokenizer.encode([text])[0] if backbone.tokenizer else ()
        if len(tokens) == 0:
            raise InputError("init = 'text' needs a text and a backbone with a tokenizer")
        prompt = backbone.embed(np.resize(tokens, length))
    else:
        raise InputError(f"unknown prompt init {init!r}; known: gaussian, words, text")
    return {"prompt": jnp.asarray(prompt, jnp.float32)}
