"""The loop that pretrains a small backbone on an endless stream of documents.

A document is a pair of texts (context, answer); plain text has the context "". Both are tokenized by themselves, as
`profit_jax.data.encode` tokenizes a query and its target, and the end token closes the answer.
"""

import dataclasses
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from profit_jax.backbone import Backbone, BackboneConfig, Tokenizer
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.pretrain import Packed, adamw, loss, make_step, start
from profit_jax.data.encode import Encoded
from profit_jax.data.packing import needed
from profit_jax.data.prefetch import prefetch
from profit_jax.errors import InputError
from profit_jax.progress import Progress

Document = tuple[str, str]

_WINDOW = 16  # documents for each row of a step that are packed together: those of a few steps
_SHOWN = 10  # steps between two looks at the loss, each of which waits for the device


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long, on how much at a time, and how fast."""

    steps: int
    rows: int  # rows of a step
    row_length: int  # positions of a row; a document that takes more is left out
    context_weight: float  # what a token of the context counts in the loss; one of the answer counts 1
    learning_rate: float  # at its highest
    warmup: int  # steps
    b2: float
    weight_decay: float
    clip: float  # of the gradient's global norm
    evaluate_every: int  # steps; 0 = at the end alone
    answers: int  # held-out contexts to answer at each evaluation

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rows < 1 or self.row_length < 2:
            raise InputError("steps and rows must be at least 1, row_length at least 2")
        if not 0 <= self.warmup < self.steps:
            raise InputError(f"warmup = {self.warmup} must be less than steps = {self.steps}")


@dataclasses.dataclass(frozen=True)
class Score:
    """How good the model is on held-out documents."""

    step: int
    loss: float  # mean negative log-likelihood of an answer's token, its end token included, in nats
    accuracy: float  # share of contexts whose greedy answer is the right one, to the letter


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """The trained backbone and what there is to say about it."""

    backbone: Backbone
    scores: list[Score]
    parameters: int
    tokens: int  # trained on, those of contexts included
    counts: Counter[str]  # "documents" packed, "dropped" because they are longer than a row
    seconds: float


def encode(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Encoded]:
    """Tokens of every context, and of every answer with its end token."""
    contexts = tokenizer.encode([context for context, _ in documents])
    answers = tokenizer.encode([answer for _, answer in documents])
    return [Encoded(context, np.append(answer, tokenizer.end)) for context, answer in zip(contexts, answers)]


def batches(
    documents: Iterable[Document], tokenizer: Tokenizer, plan: Plan, *, context_weight: float, counts: Counter[str]
) -> Iterator[Packed]:
    """Packs documents into steps of `plan.rows` rows; what is left of a finite stream fills the last step in part.

    Several steps' documents are packed together, longest first, and their rows shuffled; the emptiest rows wait for
    the next documents. `counts` is told how many documents were packed, dropped, and the tokens of the former.
    """
    shuffle, stream, waiting = np.random.default_rng(0), iter(documents), []
    while texts := list(itertools.islice(stream, _WINDOW * plan.rows)):
        for document in encode(texts, tokenizer):
            length = len(document.query) + len(document.target)
            fits = length - 1 <= plan.row_length
            counts.update({"documents": 1, "tokens": length} if fits else {"dropped": 1})
            if fits:
                waiting.append(document)
        rows = _rows(waiting, plan.row_length)
        whole = len(rows) // plan.rows * plan.rows
        for at in shuffle.permutation(whole).reshape(-1, plan.rows):
            yield _packed([rows[row] for row in at], plan, context_weight)
        waiting = [document for row in rows[whole:] for document in row]
    if waiting:
        yield _packed(_rows(waiting, plan.row_length), plan, context_weight)


def _rows(documents: list[Encoded], length: int) -> list[list[Encoded]]:
    """First fit, longest first."""
    rows: list[list[Encoded]] = []
    free: list[int] = []
    for document in sorted(documents, key=needed, reverse=True):
        row = next((row for row, left in enumerate(free) if left >= needed(document)), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(length)
        rows[row].append(document)
        free[row] -= needed(document)
    return rows


def _packed(rows: list[list[Encoded]], plan: Plan, context_weight: float) -> Packed:
    packed = Packed(*(np.zeros((plan.rows, plan.row_length), kind) for kind in [np.int32] * 4 + [np.float32]))
    for row, documents in enumerate(rows):
        at = 0
        for segment, (context, answer) in enumerate(documents, 1):
            tokens = np.concatenate([context, answer])
            here = row, slice(at, at + len(tokens) - 1)
            packed.tokens[here], packed.targets[here] = tokens[:-1], tokens[1:]
            packed.segments[here], packed.positions[here] = segment, np.arange(len(tokens) - 1)
            packed.weights[here] = np.where(np.arange(1, len(tokens)) < len(context), context_weight, 1.0)
            at += len(tokens) - 1
    return packed


def pretrain(
    config: BackboneConfig,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    held_out: Sequence[Document],
    plan: Plan,
    *,
    seed: int,
    progress: bool = True,
) -> Pretrained:
    """Trains a decoder from random weights; documents that are held out are skipped when they come up in training.

    Args:
      config: the decoder to make.
      tokenizer: `backbone.pretrain.bpe` makes one.
      documents: an endless stream; the same stream and seed give the same weights on the same machine.
      held_out: what the scores are measured on.
      plan: the steps.
      seed: of the random weights.
      progress: whether to tell on stderr how far it has come.

    Raises:
      InputError: the stream ends before the last step.
    """
    counts, unseen, begun = Counter(), set(held_out), time.perf_counter()
    backbone = start(config, tokenizer, seed=seed)
    optimizer = adamw(
        learning_rate=plan.learning_rate,
        steps=plan.steps,
        warmup=plan.warmup,
        b2=plan.b2,
        weight_decay=plan.weight_decay,
        clip=plan.clip,
    )
    step, weights = make_step(backbone.graph, optimizer), backbone.frozen
    state, scores = jax.jit(optimizer.init)(weights), []
    fresh = (document for document in documents if document not in unseen)
    stream = batches(fresh, tokenizer, plan, context_weight=plan.context_weight, counts=counts)
    prepared = prefetch(lambda _: next(stream, None), range(plan.steps), ahead=4)
    positions = plan.rows * plan.row_length
    tokens, values = 0, {}
    with Progress("pretrain", plan.steps * positions, "tokens", show=progress) as shown:
        for number, packed in enumerate(prepared, 1):
            if packed is None:
                raise InputError(f"the stream of documents ended before step {number} of {plan.steps}")
            tokens += int((packed.segments > 0).sum())
            weights, state, value = step(weights, state, packed)
            if number % _SHOWN == 0 or number == plan.steps:
                values["loss"] = f"{float(value):.3f}"
            if number == plan.steps or (plan.evaluate_every and number % plan.evaluate_every == 0):
                backbone = dataclasses.replace(backbone, frozen=weights)
                scores.append(evaluate(backbone, held_out, plan, step=number))
                values |= {"held-out": f"{scores[-1].loss:.3f}", "right": f"{scores[-1].accuracy:.2f}"}
            shown.advance(positions, **values)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights))
    return Pretrained(backbone, scores, parameters, tokens, counts, time.perf_counter() - begun)


def evaluate(backbone: Backbone, documents: Sequence[Document], plan: Plan, *, step: int) -> Score:
    """The loss on all answers, and the accuracy on the first `plan.answers` documents that have a context."""
    totals = [
        _loss(backbone.graph, backbone.frozen, packed)
        for packed in batches(documents, backbone.required_tokenizer, plan, context_weight=0.0, counts=Counter())
    ]
    total, weight = np.sum(np.array(jax.device_get(totals), np.float64), axis=0)
    asked = [document for document in documents if document[0]][: plan.answers]
    right = [given == answer for given, (_, answer) in zip(answers(backbone, asked), asked)]
    return Score(step, float(total / weight), float(np.mean(right)) if right else 0.0)


_loss = jax.jit(loss, static_argnums=0)


def answers(backbone: Backbone, documents: Sequence[Document]) -> list[str]:
    """What the model answers to each context, greedily; one token more than the longest right answer may be said."""
    tokenizer = backbone.required_tokenizer
    encoded = encode(documents, tokenizer)
    if not encoded:
        return []
    given = generate_tokens(
        backbone.graph,
        backbone.frozen,
        {},
        [context for context, _ in encoded],
        [0] * len(encoded),
        new_tokens=max(len(answer) for _, answer in encoded),
        end_tokens=backbone.end_tokens,
    )
    return [tokenizer.decode(tokens) for tokens in given]
