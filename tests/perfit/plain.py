"""PerFIT by plain loops over clients, examples and coordinates, written from the paper: what the tests compare with."""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from perfit_jax import Masks
from profit_jax.adapters import lora
from profit_jax.data.cohort import Layout, Planner
from profit_jax.data.encode import Encoded, Encoder
from profit_jax.federated.mesh import over_clients, place_state
from profit_jax.typing import Adapter, Array, Rows
from tests import worlds

LENGTH = 24  # of an unpacked example, padded on the right, which causal attention hides from the labels

# Float32 against float64 or another order of summation: a number is a sum of some dozen terms of size one at most,
# each rounded by 6e-8.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}

Gradient = Callable[[np.ndarray, Adapter, Sequence[Encoded]], tuple[float, np.ndarray]]
"""(flat values [size], a LoRA of their shapes, examples) -> the mean loss of a target token and its gradient."""


class Bigrams:
    """A stand-in for a backbone, whose gradient can be written down: what follows a token depends on it alone.

        logits after token a = sum over targets t of  E_a  (sum over layers l of A_tl B_tl)  U_t

    It is its own loss; of its kernels only the shapes are read. Its programs compile in a fraction of the decoder's
    time, so it stands in wherever a test is about the clients, not about what they compute.
    """

    tokenizer = worlds.Letters()
    targets, outputs = ("k", "q"), (3, 4)
    layers, inputs = 2, 5

    def __init__(self):
        draw = np.random.default_rng(7)

        def normal(*shape: int) -> jax.Array:
            return jnp.asarray(draw.normal(0, 1, shape), jnp.float32)

        named = [*zip(self.targets, self.outputs)]
        self.frozen = {
            "blocks": {"attention": {t: {"kernel": jnp.zeros((self.layers, self.inputs, out))} for t, out in named}},
            "embedding": normal(32, self.inputs),
            "head": {t: normal(out, 32) for t, out in named},
        }

    @property
    def loss(self) -> "Bigrams":
        return self

    def read(self, frozen, adapters: Adapter) -> Adapter:
        return adapters

    def __call__(self, frozen, adapters: Adapter, rows: Rows) -> Array:
        clients = adapters["lora"]["q"]["a"].shape[0]
        at, token, weight = (leaf.reshape(-1) for leaf in (rows.label_at, rows.label_token, rows.label_weight))
        owner = rows.client[at // rows.tokens.shape[1]]
        x = frozen["embedding"][rows.tokens.reshape(-1)[at]]
        logits = jnp.zeros((len(x), 32))
        for target, own in adapters["lora"].items():
            matrix = jnp.einsum("clir,clro->cio", own["a"], own["b"])
            logits += jnp.einsum("ni,nio->no", x, matrix[owner]) @ frozen["head"][target]
        asked = jnp.arange(32)[None] == token[:, None]
        nll = jax.nn.logsumexp(logits, axis=1) - jnp.sum(jnp.where(asked, logits, 0), axis=1)
        return jax.ops.segment_sum(weight * nll, owner, num_segments=clients)


UNIT = 2 * ((5 + 3) + (5 + 4))  # parameters of each rank of a LoRA on Bigrams: L x sum of (in + out)


@functools.cache
def bigrams() -> Bigrams:
    return Bigrams()


def bigram_gradient(values: np.ndarray, like: Adapter, batch: Sequence[Encoded]) -> tuple[float, np.ndarray]:
    """Mean token loss of `Bigrams` and its gradient, in NumPy and float64, token by token."""
    frozen = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), bigrams().frozen)
    own = factors(np.asarray(values, np.float64), like)["lora"]
    matrix = {t: sum(a @ b for a, b in zip(own[t]["a"], own[t]["b"])) for t in own}
    slope = {t: np.zeros_like(matrix[t]) for t in own}  # of the loss in the sum over layers of A B
    total, count = 0.0, 0
    for query, target in batch:
        for before, after in zip([query[-1], *target[:-1]], target):
            x = frozen["embedding"][before]
            logits = sum(x @ matrix[t] @ frozen["head"][t] for t in own)
            shares = np.exp(logits - logits.max())
            shares /= shares.sum()
            total, count = total - np.log(shares[after]), count + 1
            shares[after] -= 1
            for t in own:
                slope[t] += np.outer(x, frozen["head"][t] @ shares)
    by_factor = {
        t: {
            "a": np.stack([slope[t] @ b.T for b in own[t]["b"]]),
            "b": np.stack([a.T @ slope[t] for a in own[t]["a"]]),
        }
        for t in own
    }
    return total / count, flat({"lora": by_factor}) / count


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.value_and_grad, argnums=2)
def _nll(graph: nnx.GraphDef, frozen, lora: Mapping, tokens: Array, labelled: Array) -> Array:
    """Negative log-likelihood of the labelled tokens of one unpacked example, with A B added to the weights."""
    attention = dict(frozen["blocks"]["attention"])
    for target, own in lora.items():
        change = jnp.einsum("lir,lro->lio", own["a"], own["b"])
        attention[target] = {"kernel": attention[target]["kernel"] + change}
    frozen = frozen | {"blocks": frozen["blocks"] | {"attention": attention}}
    model = nnx.merge(graph, nnx.State(frozen))
    causal = jnp.tri(LENGTH, dtype=bool)[None]
    hidden, _ = model(model.embedding(tokens)[None], jnp.arange(LENGTH)[None], jnp.zeros(1, jnp.int32), visible=causal)
    scores = jax.nn.log_softmax(model.logits(hidden)[0, :-1])
    picked = jnp.take_along_axis(scores, tokens[1:, None], axis=1)[:, 0]
    return -jnp.sum(jnp.where(labelled[1:], picked, 0))


def decoder_gradient(values: np.ndarray, like: Adapter, batch: Sequence[Encoded]) -> tuple[float, np.ndarray]:
    """Mean token loss of the small world's decoder and its gradient, one unpacked example at a time."""
    model, own = worlds.backbone(), factors(np.asarray(values, np.float32), like)["lora"]
    total, gradient, count = 0.0, np.zeros(len(values)), 0
    for query, target in batch:
        tokens = np.zeros(LENGTH, np.int32)
        tokens[: len(query) + len(target)] = np.concatenate([query, target])
        labelled = (np.arange(LENGTH) >= len(query)) & (np.arange(LENGTH) < len(query) + len(target))
        loss, change = _nll(model.graph, model.frozen, own, jnp.asarray(tokens), jnp.asarray(labelled))
        total, gradient, count = total + float(loss), gradient + flat({"lora": change}), count + len(target)
    return total / count, gradient / count


def aggregated(
    values: Mapping[int, np.ndarray], masks: Mapping[int, np.ndarray], examples: Mapping[int, float]
) -> dict[int, np.ndarray]:
    """Algorithm 3 for every client z of a round: client -> dense module, with Gamma coordinate by coordinate.

    Where the owners of a coordinate have no example between them, Gamma is 0 / 0, and they keep what they hold.
    """
    after = {}
    for z, own in values.items():
        after[z] = own.astype(np.float64)
        for j in np.flatnonzero(masks[z]):
            owners = [k for k in values if masks[k][j]]
            whole = sum(examples[k] for k in owners)
            if whole > 0:
                after[z][j] = sum(values[k][j] * (examples[k] / whole) for k in owners)
    return after


def encoder() -> Encoder:
    return Encoder(worlds.Letters(), max_query=16, max_target=6)


def layout(**changes) -> Layout:
    """A layout whose rungs are so far apart that cohorts of the small world share one program."""
    return Layout(**{"row_width": 32, "positions_per_flight": 4096, "slack": 3.0} | changes)


def planner(**changes) -> Planner:
    return Planner(layout(**changes), reduction="token", steps=2)


@functools.cache
def adapter(backbone: Callable = bigrams, rank: int = 4, init: str = "gaussian") -> Adapter:
    targets = Bigrams.targets if backbone is bigrams else ("q", "k", "v")
    return lora(backbone(), rank=rank, targets=targets, init=init, seed=3)


def flat(adapter: Adapter) -> np.ndarray:
    """A LoRA's elements one after another, target by target in the order of the alphabet, A before B, `[size]`."""
    own = adapter["lora"]
    return np.concatenate([np.ravel(own[target][factor]) for target in sorted(own) for factor in ("a", "b")])


def factors(values: np.ndarray, like: Adapter) -> Adapter:
    """The inverse of `flat`: a LoRA of `like`'s shapes with these elements."""
    found, start = {}, 0
    for target in sorted(like["lora"]):
        found[target] = {}
        for factor in ("a", "b"):
            shape = like["lora"][target][factor].shape
            stop = start + int(np.prod(shape))
            found[target][factor], start = values[start:stop].reshape(shape), stop
    return {"lora": found}


def random_masks(like: Adapter, shares: Sequence[float] = (0.5, 0.3, 0.6, 0.4)) -> Masks:
    """Masks of clients that own about these shares of the coordinates, drawn without looking at any data."""
    draw, size = np.random.default_rng(11), len(flat(like))
    return Masks(like, np.packbits([draw.random(size) < share for share in shares], axis=1))


def dense(algorithm, state, clients: int) -> np.ndarray:
    """Every client's whole LoRA as the backbone would read it, `[n, size]`."""
    own = jax.device_get(_adapters(algorithm)(state, jnp.arange(clients)))
    return np.stack([flat(jax.tree.map(lambda leaf, c=c: leaf[c], own)) for c in range(clients)])


@functools.cache
def _adapters(algorithm) -> Callable:
    return jax.jit(algorithm.adapters)


def run(algorithm, like: Adapter, cohorts: Sequence, mesh=None):
    """The state after rounds on these cohorts, and the statistics of each."""
    state, recorded = algorithm.init(like), []
    if mesh:
        state, cohorts = place_state(state, mesh), [over_clients(cohort, mesh) for cohort in cohorts]
    for cohort in cohorts:
        state, stats = algorithm.round(state, cohort)
        recorded.append(jax.device_get(stats))
    return state, recorded
