"""Generation, greedy or sampled: prompts are read once, then one compiled loop writes a token a step for all rows."""

import functools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from profit_jax import hosts, rng
from profit_jax.backbone.attention import KeysValues
from profit_jax.backbone.decoder import Decoder
from profit_jax.errors import InputError
from profit_jax.typing import Adapter, Array, Frozen, Queries

_NARROWEST = 16  # no batch is narrower than this
_AHEAD = 4  # batches that the device has been given beside the one that is fetched: enough that it never waits


class Sampling(NamedTuple):
    """How tokens are drawn: from `softmax(logits / temperature)`, or from its likeliest tokens alone.

    A row's draws are a function of the key and of the row's number, so no batching can change them.
    """

    key: Array  # of all draws
    number: Array  # [R] int32
    temperature: Array  # []
    top_p: Array | None = None  # [], the probability that is kept (Holtzman et al. 2020, "nucleus"); None: all of it


class _State(NamedTuple):
    step: Array  # [] int32, tokens written so far
    token: Array  # [R] int32, read next: the query's last one, then the last one chosen
    ended: Array  # [R] bool
    recent: KeysValues  # [L, R, G, new, E] each: keys and values of the tokens that the loop has read
    answer: jax.Array  # [R, new] int32


def decode(
    graph: nnx.GraphDef,
    frozen: Frozen,
    adapters: Adapter,
    queries: Queries,
    sampling: Sampling | None = None,
    *,
    new_tokens: int,
    end_tokens: tuple[int, ...],
) -> Array:
    """Continues every query token by token, with the likeliest or with drawn ones.

    The loop begins with each query's last token and stops when every row has ended. All that is made of the tokens
    before are keys and values, a constant of the loop; only a small buffer is updated in it.

    Args:
      graph: the decoder's structure; static under jit.
      frozen: its weights.
      adapters: leaves `[C, ...]`, read or not (`Decoder.read`); row r uses those of `queries.client[r]`.
      queries: leaves `[R, ...]`; a row of length 0 is empty and gets no tokens.
      sampling: how tokens are drawn; None takes the likeliest.
      new_tokens: at most so many tokens are written; static under jit.
      end_tokens: any of these ends a row and is not part of its answer; static under jit.

    Returns:
      Token ids `[R, new_tokens]` int32, -1 after a row's end.
    """
    return _run(graph, frozen, adapters, queries, new_tokens, end_tokens, sampling).answer


def _run(
    graph: nnx.GraphDef,
    frozen: Frozen,
    adapters: Adapter,
    queries: Queries,
    new_tokens: int,
    end_tokens: tuple[int, ...],
    sampling: Sampling | None = None,
) -> _State:
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    rows, width = queries.tokens.shape
    adapters = model.read(adapters)

    def choose(hidden: Array, ended: Array, step: Array) -> tuple[Array, Array]:
        """The next token of each row, and whether the row has ended with it. hidden is `[R, D]`."""
        logits = model.logits(hidden)
        token = (jnp.argmax(logits, axis=-1) if sampling is None else draw(logits, sampling, step)).astype(jnp.int32)
        return token, ended | jnp.isin(token, jnp.asarray(end_tokens, jnp.int32))

    # Only keys and values: what follows a query is for the loop to say. Padding stands behind, where nobody sees it.
    at, x = jnp.arange(width)[None], model.embed_tokens(queries.tokens)
    _, known = model(x, at, queries.client, adapters, only_keys_values=True)
    end = jnp.maximum(queries.length - 1, 0)[:, None]
    inside = at < end
    past_at = jnp.concatenate([jnp.broadcast_to(at, (rows, width)), end + jnp.arange(new_tokens)[None]], axis=1)

    def running(state: _State) -> Array:
        return (state.step < new_tokens) & ~jnp.all(state.ended)

    def write(state: _State) -> _State:
        read = jnp.broadcast_to((jnp.arange(new_tokens) < state.step)[None], (rows, new_tokens))
        visible = jnp.concatenate([inside, read, jnp.ones((rows, 1), bool)], axis=1)[:, None]
        x, own = model(
            model.embed_tokens(state.token)[:, None],
            end + state.step,
            queries.client,
            adapters,
            visible=visible,
            past=(known, state.recent),
            past_positions=past_at,
        )
        recent = jax.tree.map(
            lambda kept, new: lax.dynamic_update_slice_in_dim(kept, new, state.step, axis=3), state.recent, own
        )
        token, ended = choose(x[:, 0], state.ended, state.step)
        answer = state.answer.at[:, state.step].set(jnp.where(ended, -1, token))
        return _State(state.step + 1, token, ended, recent, answer)

    token = jnp.take_along_axis(queries.tokens, end, axis=1)[:, 0]
    recent = jax.tree.map(lambda own: jnp.zeros((*own.shape[:3], new_tokens, own.shape[4]), own.dtype), known)
    answer = jnp.full((rows, new_tokens), -1, jnp.int32)
    return lax.while_loop(running, write, _State(jnp.int32(0), token, queries.length == 0, recent, answer))


_decode = jax.jit(decode, static_argnames=("graph", "new_tokens", "end_tokens"))


@functools.partial(jax.jit, static_argnames="graph")
def _read(graph: nnx.GraphDef, frozen: Frozen, adapters: Adapter) -> Adapter:
    model: Decoder = nnx.merge(graph, nnx.State(frozen))
    return model.read(adapters)


def draw(logits: Array, sampling: Sampling, step: Array) -> Array:
    """A token for each row: `[R, V]` -> `[R]` int32. Every row and step has draws of its own."""

    def one(number: Array, logits: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(sampling.key, number), step)
        return jax.random.categorical(key, logits)

    logits = logits / sampling.temperature
    return jax.vmap(one)(sampling.number, logits if sampling.top_p is None else nucleus(logits, sampling.top_p))


def nucleus(logits: Array, top_p: Array | float) -> Array:
    """Keeps the fewest likeliest tokens whose probabilities sum to `top_p`, and ties; others get -inf. `[R, V]`.

    >>> nucleus(jnp.log(jnp.asarray([[0.2, 0.5, 0.3]])), 0.6) > -jnp.inf
    Array([[False,  True,  True]], dtype=bool)
    """
    shares = jax.nn.softmax(logits)
    descending = -jnp.sort(-shares, axis=-1)
    before = jnp.cumsum(descending, axis=-1) - descending
    least = jnp.min(jnp.where(before < top_p, descending, 1.0), axis=-1, keepdims=True)
    return jnp.where(shares >= least, logits, -jnp.inf)


def generate_tokens(
    graph: nnx.GraphDef,
    frozen: Frozen,
    adapters: Adapter,
    queries: Sequence[np.ndarray],
    clients: Sequence[int],
    *,
    new_tokens: int,
    end_tokens: tuple[int, ...],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    positions_per_batch: int | None = None,
    mesh: Mesh | None = None,
) -> list[np.ndarray]:
    """Answers any number of queries: `generate_batches`, put into the order of the queries.

    Returns:
      Token ids of each answer, int32, without the end token.
    """
    answers: list[np.ndarray] = [np.zeros(0, np.int32)] * len(queries)
    for chosen, given in generate_batches(
        graph,
        frozen,
        adapters,
        queries,
        clients,
        new_tokens=new_tokens,
        end_tokens=end_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        positions_per_batch=positions_per_batch,
        mesh=mesh,
    ):
        for i, answer in zip(chosen, given):
            answers[i] = answer
    return answers


def generate_batches(
    graph: nnx.GraphDef,
    frozen: Frozen,
    adapters: Adapter,
    queries: Sequence[np.ndarray],
    clients: Sequence[int],
    *,
    new_tokens: int,
    end_tokens: tuple[int, ...],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    positions_per_batch: int | None = None,
    mesh: Mesh | None = None,
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Answers any number of queries of any lengths, in batches of similar length and few shapes.

    What the caller does with a batch's answers, it does while the device works on the next batches.

    Args:
      graph, frozen: the decoder.
      adapters: leaves `[C, ...]`.
      queries: token ids of each query, start tokens included; the soft prompt comes before them.
      clients: whose adapter answers each query.
      new_tokens: at most so many tokens are written.
      end_tokens: any of these ends an answer.
      temperature: tokens are drawn from `softmax(logits / temperature)`; 0 takes the likeliest.
      top_p: drawn only of the fewest likeliest tokens whose probabilities sum to it.
      seed: of the draws; those of a query are a function of the seed and its place in `queries`.
      positions_per_batch: rows times width of a batch, about. By default 2,048 on a CPU, which then works out of its
        caches, and 16,384 elsewhere.
      mesh: its devices along `clients` share the rows of each batch, so many positions each.

    Yields:
      Places in `queries`, and for each the token ids of the answer, int32, without the end token. Every place once.
    """
    if new_tokens < 1:
        raise InputError(f"an answer needs room for one token at least, not {new_tokens}")
    if not (0 <= temperature < math.inf and 0 < top_p <= 1):
        raise InputError(f"temperature = {temperature} must not be negative, and top_p = {top_p} lie in (0, 1]")
    if empty := [number for number, query in enumerate(queries) if not len(query)]:
        raise InputError(f"query {empty[0]} has no tokens, so nothing can follow it")
    read = _read(graph, frozen, adapters)  # once for all batches
    positions = positions_per_batch or (2048 if jax.default_backend() == "cpu" else 16384)
    lanes = mesh.shape["clients"] if mesh else 1
    running: deque[tuple[list[int], Array]] = deque()

    def fetched() -> tuple[list[int], list[np.ndarray]]:
        chosen, tokens = running.popleft()
        return chosen, [row[row >= 0] for row in hosts.gathered(tokens)[: len(chosen)]]

    for chosen, rows, width in batches([len(query) for query in queries], positions, lanes):
        batch = _batch([queries[i] for i in chosen], [clients[i] for i in chosen], rows, width)
        batch = hosts.placed(batch, NamedSharding(mesh, PartitionSpec("clients"))) if mesh else batch
        sampling = _sampling(chosen, rows, temperature, top_p, seed) if temperature else None
        tokens = _decode(graph, frozen, read, batch, sampling, new_tokens=new_tokens, end_tokens=end_tokens)
        running.append((chosen, tokens))
        if len(running) > _AHEAD:
            yield fetched()
    while running:
        yield fetched()


def batches(lengths: Sequence[int], positions: int, lanes: int = 1) -> Iterator[tuple[list[int], int, int]]:
    """Cuts rows into batches, longest first: (indices, rows, width) of each.

    A width fixes the number of rows, so shapes are as few as the ladder's widths; only the last batch, which may be
    small, has fewer rows (a power of two). Rows are those of all `lanes`, `positions` those of one.

    >>> [(chosen, rows, width) for chosen, rows, width in batches([3, 40, 17], positions=96)]
    [([1, 2], 2, 48), ([0], 1, 16)]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        width = ladder(lengths[order[0]])
        rows = max(1, positions // width)
        chosen, order = order[: lanes * rows], order[lanes * rows :]
        if not order:
            rows = min(rows, 1 << (-(-len(chosen) // lanes) - 1).bit_length())
        yield chosen, lanes * rows, width


def ladder(length: int) -> int:
    """The narrowest of the widths 16, 32, 48, ... 112, 128, 160, 192, 224, 256, 320, ... that holds `length`.

    They are multiples of 16, and above 64 four for each doubling: scores grow with a width's square.

    >>> [ladder(n) for n in (1, 16, 17, 100, 129)]
    [16, 16, 32, 112, 160]
    """
    step = max(_NARROWEST, (1 << (length - 1).bit_length()) // 8)
    return -(-length // step) * step


def _batch(queries: list[np.ndarray], clients: list[int], rows: int, width: int) -> Queries:
    tokens, length, client = np.zeros((rows, width), np.int32), np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    for row, query in enumerate(queries):
        length[row] = len(query)
        tokens[row, : len(query)] = query
    client[: len(clients)] = clients
    return Queries(tokens, length, client)


def _sampling(chosen: list[int], rows: int, temperature: float, top_p: float, seed: int) -> Sampling:
    number = np.zeros(rows, np.int32)
    number[: len(chosen)] = chosen
    kept = None if top_p == 1 else jnp.float32(top_p)  # all: a sum of rounded probabilities may miss 1
    return Sampling(rng.key(seed, "generate"), jnp.asarray(number), jnp.float32(temperature), kept)
