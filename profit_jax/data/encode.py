"""Text to tokens: what stands in front of the model, and what it is asked to say."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from profit_jax.data.examples import Clients, Example
from profit_jax.errors import InputError


class TextCoder(Protocol):
    """What encoding needs of a tokenizer."""

    @property
    def start(self) -> tuple[int, ...]:
        """What stands before every text."""
        ...

    @property
    def end(self) -> int:
        """What closes a target."""
        ...

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, without special tokens."""
        ...


class Encoded(NamedTuple):
    """An example as tokens: `[start, query]` and `[target, end]`, int32 each."""

    query: np.ndarray
    target: np.ndarray


class Encoder:
    """Encodes examples within length limits (Profit Appendix C: 1,024 query and 128 target tokens).

    A longer query loses tokens on its left, never on its right, where the question usually stands; a longer target
    loses its right end and its end token. Both are counted in `counts` ("queries", "truncated_queries",
    "truncated_targets"). `separator` closes the query's text, since targets are encoded by themselves.
    """

    def __init__(
        self, tokenizer: TextCoder | None, *, max_query: int = 1024, max_target: int = 128, separator: str = "\n"
    ):
        if tokenizer is None:
            raise InputError("the model has no tokenizer, so texts cannot be encoded; use a folder that holds one")
        if max_query <= len(tokenizer.start) or max_target < 1:
            raise InputError(f"max_query = {max_query} and max_target = {max_target} leave no room for text")
        self.tokenizer = tokenizer
        self.max_query, self.max_target, self.separator = max_query, max_target, separator
        self.counts: Counter[str] = Counter()

    def queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Start tokens and query tokens of each text."""
        start = np.array(self.tokenizer.start, np.int32)
        room = self.max_query - len(start)
        encoded = self.tokenizer.encode([text + self.separator for text in texts])
        self.counts["queries"] += len(encoded)
        self.counts["truncated_queries"] += sum(len(tokens) > room for tokens in encoded)
        return [np.concatenate([start, tokens[-room:]]).astype(np.int32) for tokens in encoded]

    def targets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Target tokens of each text, closed by the end token."""
        encoded = self.tokenizer.encode(texts)
        self.counts["truncated_targets"] += sum(len(tokens) + 1 > self.max_target for tokens in encoded)
        closed = [np.append(tokens, self.tokenizer.end) for tokens in encoded]
        return [tokens[: self.max_target].astype(np.int32) for tokens in closed]

    def __call__(self, examples: Sequence[Example]) -> list[Encoded]:
        """Encodes queries and first targets."""
        if not examples:
            return []
        queries = self.queries([example.query for example in examples])
        targets = self.targets([example.targets[0] for example in examples])
        return [Encoded(query, target) for query, target in zip(queries, targets)]


class EncodedClients:
    """A federated data set as tokens; the clients used last stay in memory."""

    def __init__(self, clients: Clients, encoder: Callable[[Sequence[Example]], list[Encoded]], *, keep: int = 512):
        self.sizes = clients.sizes
        self._clients, self._encoder = clients, encoder
        self.client = functools.lru_cache(keep)(self._encode_client)

    def _encode_client(self, client: int) -> list[Encoded]:
        return self._encoder(self._clients[client])

    def take(self, numbers: Sequence[int]) -> list[Encoded]:
        """Examples by their number in the concatenation of all clients."""
        return self._encoder(self._clients.take(numbers))
