"""Scores of generated answers: greedy decoding, ROUGE-L, the maximum over references (Profit Section 3, Appendix C)."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_batches
from profit_jax.data.encode import Encoder
from profit_jax.data.examples import Clients, Example
from profit_jax.errors import InputError
from profit_jax.metrics import rouge_l
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
            generate_batches,
            backbone.graph,
            backbone.frozen,
            new_tokens=new_tokens,
            end_tokens=backbone.end_tokens,
            mesh=backbone.mesh,
        )
        self._decode = functools.lru_cache(1 << 20)(backbone.required_tokenizer.decode)

    def questions(
        self, examples: Sequence[Example], text: Callable[[Example], str] = lambda example: example.query
    ) -> Questions:
        """Tokenizes the examples; `text` says what is asked of each."""
        return Questions(self._encoder.queries([*map(text, examples)]), [example.targets for example in examples])

    def scores(self, adapters: Adapter, asked: Sequence[Questions]) -> list[np.ndarray]:
        """ROUGE-L of every question, one array `[questions]` float64 for each client.

        A batch's answers are scored while the device writes those of the next.

        Args:
          adapters: leaves `[C, ...]`; `{}` for the backbone alone.
          asked: the questions of each client.
        """
        # The same query to the same client is answered once: a global question may be one of the client's own.
        numbers_of: dict[tuple[int, bytes], list[int]] = {}
        for client, questions in enumerate(asked):
            for number, query in enumerate(questions.queries):
                numbers_of.setdefault((client, query.tobytes()), []).append(number)
        clients = [client for client, _ in numbers_of]
        numbers = [*numbers_of.values()]
        queries = [asked[client].queries[same[0]] for client, same in zip(clients, numbers)]
        scores = [np.zeros(len(questions.queries)) for questions in asked]
        for places, answers in self._generate(adapters, queries, clients):
            for place, answer in zip(places, answers):
                client, text = clients[place], self._decode(tuple(answer.tolist()))
                for number in numbers[place]:
                    scores[client][number] = rouge_l(text, asked[client].references[number])
        return scores


def sample_questions(
    evaluator: Evaluator, clients: Clients, *, count: int, generator: np.random.Generator
) -> Questions:
    """A global set: `count` examples drawn from all clients without replacement."""
    available = int(clients.sizes.sum())
    if count > available:
        raise InputError(f"a global set of {count} examples is asked for, but the clients hold {available}")
    numbers = np.sort(generator.choice(available, count, replace=False))
    return evaluator.questions(clients.take(numbers.tolist()))
