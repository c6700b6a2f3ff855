"""A backbone as users hold it: configuration, frozen weights, tokenizer."""

import dataclasses
import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from profit_jax.backbone.config import BackboneConfig
from profit_jax.backbone.decoder import Decoder
from profit_jax.backbone.families import read_config
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.loss import Loss
from profit_jax.backbone.save import modules
from profit_jax.backbone.sharding import over_model
from profit_jax.backbone.tokenizer import Tokenizer, load_tokenizer
from profit_jax.backbone.weights import load_weights
from profit_jax.errors import InputError
from profit_jax.typing import Adapter, Array, Frozen

_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen language model: `graph` is its structure (static), `frozen` its weights (a nested dict of arrays).

    >>> backbone = Backbone.load("tiny")
    >>> backbone.config.layers, backbone.config.width, backbone.embed([5, 7]).shape
    (4, 192, (2, 192))
    """

    config: BackboneConfig
    graph: nnx.GraphDef
    frozen: Frozen
    tokenizer: Tokenizer | None = None
    remat: bool = False
    mesh: Mesh | None = None  # where the weights are: divided along `model`, the same along `clients`

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        dtype: str = "float32",
        quantize: str = "",
        remat: bool = False,
        mesh: Mesh | None = None,
    ) -> "Backbone":
        """Reads a Hugging Face folder: `config.json`, one or many `.safetensors` files, and its tokenizer.

        Args:
          folder: the folder; `"tiny"` stands for the small pretrained model in this package, and `"./tiny"` for a
            folder of that name.
          dtype: of weights and computation: float32 or bfloat16. An adapter trains in float32 with both.
          quantize: `"int8"` keeps matrices in 8 bits, but no embedding table (`profit_jax.backbone.quantize`).
          remat: whether the backward pass computes each layer again, which costs time and saves memory.
          mesh: where the weights go; its devices along `model` share them (`profit_jax.backbone.sharding`).
        """
        folder = folder_of(folder)
        config = read_config(folder)
        there = cls.abstract(config, dtype=dtype, quantize=quantize, remat=remat, mesh=mesh)
        tokenizer = load_tokenizer(folder, config)
        return dataclasses.replace(there, frozen=load_weights(folder, config, there.frozen), tokenizer=tokenizer)

    @classmethod
    def random(
        cls,
        config: BackboneConfig,
        *,
        seed: int = 0,
        dtype: str = "float32",
        quantize: str = "",
        tokenizer: Tokenizer | None = None,
        remat: bool = False,
        mesh: Mesh | None = None,
    ) -> "Backbone":
        """A backbone with random weights, for timing and for demonstrations without a model."""
        there = cls.abstract(config, dtype=dtype, quantize=quantize, remat=remat, mesh=mesh)

        @functools.partial(jax.jit, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, there.frozen))
        def create() -> Frozen:
            return nnx.to_pure_dict(nnx.state(_decoder(config, dtype, quantize, seed)))

        return dataclasses.replace(there, frozen=create(), tokenizer=tokenizer)

    @classmethod
    def abstract(
        cls,
        config: BackboneConfig,
        *,
        dtype: str = "float32",
        quantize: str = "",
        remat: bool = False,
        mesh: Mesh | None = None,
    ) -> "Backbone":
        """A backbone whose weights are `jax.ShapeDtypeStruct`s: to compile for, on machines that need not be there.

        With a mesh each has its `NamedSharding`, as the weights of `load` and `random` have.
        """
        graph, state = nnx.split(nnx.eval_shape(lambda: _decoder(config, dtype, quantize)))
        frozen = nnx.to_pure_dict(state)
        return cls(config, graph, frozen if mesh is None else over_model(frozen, config, mesh), None, remat, mesh)

    @property
    def loss(self) -> Loss:
        """The training loss of this backbone, a function of (frozen, adapters, batch)."""
        return Loss(self.graph, self.frozen, self.tokenizer, self.remat)

    def logits(self, tokens: Array, adapter: Adapter | None = None) -> Array:
        """Scores of the next token at every position: `[B, T]` int -> `[B, T, V]` float32. For tests and notebooks.

        Args:
          tokens: whole texts, their start token included.
          adapter: without client axis, or none; a prompt's rows stand before every text and have no scores.
        """
        adapters = jax.tree.map(lambda leaf: leaf[None], adapter or {})
        return _logits(self.graph, self.frozen, adapters, jnp.asarray(tokens))

    def embed(self, tokens: Array) -> Array:
        """What the first block reads of tokens: `[...]` int -> `[..., D]`. Soft prompts live in the same space."""
        return _embed(self.graph, self.frozen, jnp.asarray(tokens))

    def modules(self, path: str) -> list[str]:
        """Which modules of the Hugging Face model, one a layer, hold the kernel at `path` of `frozen`; see `save`."""
        return modules(self.config, path)

    @property
    def required_tokenizer(self) -> Tokenizer:
        """The tokenizer, for those who cannot do without.

        Raises:
          InputError: there is none.
        """
        if self.tokenizer is None:
            raise InputError("this backbone has no tokenizer, so it cannot read texts")
        return self.tokenizer

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Any of these ends a generated text: the model's own, and the one that closes a training target."""
        own = () if self.tokenizer is None else (self.tokenizer.end,)
        return tuple(sorted({*self.config.end_tokens, *own}))

    def generate(
        self,
        texts: Sequence[str],
        adapter: Adapter | None = None,
        max_new_tokens: int = 10,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """Continues each text, with the adapter `{"prompt": [K, D]}` or `{"lora": ...}`, or with none.

        Args:
          texts: as they stand; what `Encoder` makes a query of ends in a line break.
          adapter: without client axis.
          max_new_tokens: at most so many tokens are written.
          temperature, top_p, seed: as in `generate_tokens`; temperature 0 takes the likeliest token each time.
        """
        tokenizer = self.required_tokenizer
        queries = [np.asarray([*tokenizer.start, *ids], np.int32) for ids in tokenizer.encode(texts)]
        answers = generate_tokens(
            self.graph,
            self.frozen,
            jax.tree.map(lambda leaf: leaf[None], adapter or {}),
            queries,
            [0] * len(queries),
            new_tokens=max_new_tokens,
            end_tokens=self.end_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            mesh=self.mesh,
        )
        return [tokenizer.decode(ids) for ids in answers]


def folder_of(model: str | Path) -> Path:
    """The folder that is meant: `"tiny"` is the model in this package, as launch/pretrain_tiny.py has written it."""
    if model != "tiny":
        return Path(model)
    folder = Path(str(resources.files("profit_jax.backbone"))) / "tiny"
    if not (folder / "config.json").is_file():
        raise InputError(f"this installation has no embedded model ({folder}); launch/pretrain_tiny.py makes one")
    return folder


@functools.partial(jax.jit, static_argnums=0)
def _embed(graph: nnx.GraphDef, frozen: Frozen, tokens: Array) -> Array:
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    return model.embed_tokens(tokens)


@functools.partial(jax.jit, static_argnums=0)
def _logits(graph: nnx.GraphDef, frozen: Frozen, adapters: Adapter, tokens: Array) -> Array:
    """Through the parts that training uses: a prompt's keys and values, factors by row; `adapters` `[1, ...]`."""
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    batch, length = tokens.shape
    client, at = jnp.zeros(batch, jnp.int32), jnp.broadcast_to(jnp.arange(length)[None], (batch, length))
    hidden, _ = model(model.embed_tokens(tokens), at, client, model.read(adapters))
    return model.logits(hidden)


def _decoder(config: BackboneConfig, dtype: str, quantize: str, seed: int = 0) -> Decoder:
    if dtype not in _DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; known: {', '.join(_DTYPES)}")
    if quantize not in ("", "int8"):
        raise InputError(f"unknown quantize {quantize!r}; known: int8, or nothing")
    decoder = Decoder(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(seed))
    if quantize:
        decoder.quantize()
    return decoder
