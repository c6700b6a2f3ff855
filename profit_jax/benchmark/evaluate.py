"""Scores of generated answers: greedy decoding, ROUGE-L, the maximum over references (Profit Section 3, Appendix C)."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_tokens
from profit_jax.data.encode import Encoder
from profit_jax.data.examples import Clients, Example
from profit_jax.errors import InputError
from profit_jax.metrics import rouge_ls
from profit_jax.typing import Adapter


class Questions(NamedTuple):
    """Queries as tokens, with the answers that count as right."""

    queries: list[np.ndarray]
    references: list[tuple[str, ...]]


class Evaluator:
    """Answers questions with many adapters at once and scores the answers."""

    def __init__(self, backbone: Backbone, encoder: Encoder, *, new_tokens: int = 10):
        self._backbone, self._encoder = backbone, encoder
        self._generate = functools.partial(
            generate_tokens,
            backbone.graph,
            backbone.frozen,
            new_tokens=new_tokens,
            end_tokens=backbone.end_tokens,
            mesh=backbone.mesh,
        )
        self._decode = functools.lru_cache(1 << 20)(backbone.tokenizer.decode)

    def questions(
        self, examples: Sequence[Example], text: Callable[[Example], str] = lambda example: example.query
    ) -> Questions:
        """Tokenizes the examples; `text` says what is asked of each."""
        return Questions(self._encoder.queries([*map(text, examples)]), [example.targets for example in examples])

    def scores(self, adapters: Adapter, asked: Sequence[Questions]) -> list[np.ndarray]:
        """ROUGE-L of every question, one array `[questions]` for each client.

        Args:
          adapters: leaves `[C, ...]`; `{}` for the backbone alone.
          asked: the questions of each client.
        """
        clients = [client for client, questions in enumerate(asked) for _ in questions.queries]
        queries = [query for questions in asked for query in questions.queries]
        references = [accepted for questions in asked for accepted in questions.references]
        answers = self._generate(adapters, queries, clients)
        texts = [self._decode(tuple(answer.tolist())) for answer in answers]
        ends = np.cumsum([len(questions.queries) for questions in asked])
        return np.split(rouge_ls(texts, references), ends[:-1])


def sample_questions(
    evaluator: Evaluator, clients: Clients, *, count: int, generator: np.random.Generator
) -> Questions:
    """A global set: `count` examples drawn from all clients without replacement."""
    available = int(clients.sizes.sum())
    if count > available:
        raise InputError(f"a global set of {count} examples is asked for, but the clients hold {available}")
    numbers = np.sort(generator.choice(available, count, replace=False))
    return evaluator.questions(clients.take(numbers))
