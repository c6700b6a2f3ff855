"""Pretraining: packing is invisible, weights are as asked, the model learns, and transformers reads it."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from profit_jax.backbone.pretrain import Packed, bpe, loss, start
from profit_jax.backbone.save import save
from profit_jax.errors import InputError
from profit_jax.experiment.pretrain import Plan, Pretrained, batches, encode, evaluate, pretrain
from tests.backbone.families import TINY
from tests.backbone.test_embedded import assert_equals_transformers

WORDS = ("red", "blue", "green", "grey", "black", "white")
PLAN = Plan(
    steps=40,
    rows=4,
    row_length=32,
    context_weight=0.25,
    learning_rate=1e-2,
    warmup=5,
    b2=0.95,
    weight_decay=0.1,
    clip=1.0,
    evaluate_every=0,
    answers=8,
)


def documents(seed: int) -> Iterator[tuple[str, str]]:
    """The answer is the context's last word; now and then a text, or a document that no row holds."""
    draw = np.random.default_rng(seed)
    for number in itertools.count(1):
        words = draw.choice(WORDS, 1 + draw.integers(6)).tolist()
        if number % 50 == 0:
            yield "", " ".join(WORDS * 9)
        else:
            yield ("", " ".join(words)) if number % 5 == 0 else (" ".join(words) + "\n", words[-1])


TEXTS = list(itertools.islice(documents(7), 60))
TOKENIZER = bpe([text for document in TEXTS for text in document], 290)
CONFIG = dataclasses.replace(
    TINY, vocabulary=TOKENIZER.size, layers=2, heads=2, key_value_heads=2, head_width=16, end_tokens=(TOKENIZER.end,)
)


def packed(plan: Plan = PLAN, context_weight: float = 0.25) -> tuple[list[Packed], Counter[str]]:
    counts = Counter()
    return list(batches(TEXTS, TOKENIZER, plan, context_weight=context_weight, counts=counts)), counts


def train() -> Pretrained:
    return pretrain(CONFIG, TOKENIZER, documents(0), TEXTS, PLAN, seed=0, progress=False)


@pytest.fixture(scope="module")
def made() -> Pretrained:
    return train()


def spelled(rows: Packed) -> Iterator[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Each document of packed rows: its tokens, and the weights of all but the first."""
    for tokens, targets, segments, positions, weights in zip(*rows):
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            assert positions[inside].tolist() == list(range(inside.sum()))
            yield (*tokens[inside].tolist(), int(targets[inside][-1])), tuple(weights[inside].tolist())
            assert tokens[inside][1:].tolist() == targets[inside][:-1].tolist()


def test_every_document_that_fits_is_packed_once_with_its_weights():
    rows, counts = packed()
    expected, dropped = Counter(), 0
    for context, answer in encode(TEXTS, TOKENIZER):
        weights = [0.25] * len(context) + [1.0] * len(answer)
        if len(weights) - 1 > PLAN.row_length:
            dropped += 1
        else:
            expected[(*context.tolist(), *answer.tolist()), tuple(weights[1:])] += 1
    assert Counter(itertools.chain.from_iterable(spelled(step) for step in rows)) == expected
    assert dropped == counts["dropped"] > 0 and counts["documents"] == len(TEXTS) - dropped
    assert counts["tokens"] == sum(len(tokens) * count for (tokens, _), count in expected.items())
    for step in rows:
        assert step.tokens.shape == (PLAN.rows, PLAN.row_length)
        assert not step.weights[step.segments == 0].any()
    assert np.mean([(step.segments > 0).mean() for step in rows[:-1]]) > 0.9


def test_context_and_answer_are_tokenized_apart_and_the_end_closes_the_answer():
    [(context, answer)] = encode([("red", "blue")], TOKENIZER)
    assert [TOKENIZER.decode(context), TOKENIZER.decode(answer)] == ["red", "blue"]
    assert answer[-1] == TOKENIZER.end and TOKENIZER.end not in context
    together = TOKENIZER.encode(["red blue"])[0]
    assert together.tolist() == [*context, *answer[:-1]]  # the first word of a text is spelled as any other


@pytest.mark.parametrize("text", ["12 plus 3\n", " two  spaces ", "a\n\nb\r\n", "é 漢 </s>", "don't, she said.", "\tx"])
def test_decoding_inverts_encoding(text):
    tokens = TOKENIZER.encode([text])[0]
    assert TOKENIZER.decode(tokens) == text and TOKENIZER.end not in tokens


def test_no_document_sees_another():
    backbone = start(CONFIG, TOKENIZER, seed=0)
    total = jax.jit(loss, static_argnums=0)
    together = np.sum([total(backbone.graph, backbone.frozen, step) for step in packed()[0]], axis=0)
    alone = np.zeros(2)
    for context, answer in encode(TEXTS, TOKENIZER):
        tokens = np.concatenate([context, answer])
        if len(tokens) - 1 <= PLAN.row_length:
            room = np.pad(tokens, (0, 40 - len(tokens)))
            scores = jax.nn.log_softmax(backbone.logits(room[None])[0])
            weights = np.where(np.arange(1, len(tokens)) < len(context), 0.25, 1.0)
            said = np.asarray(scores)[np.arange(len(tokens) - 1), tokens[1:]]
            alone += [-(weights * said).sum(), weights.sum()]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_a_predictable_stream_is_learned(made):
    before = evaluate(start(CONFIG, TOKENIZER, seed=0), TEXTS, PLAN, step=0)
    [after] = made.scores
    assert after.step == PLAN.steps and after.loss < before.loss / 3
    assert made.tokens > 0.9 * PLAN.steps * PLAN.rows * PLAN.row_length
    assert made.parameters == sum(leaf.size for leaf in jax.tree.leaves(made.backbone.frozen))


def test_the_same_seed_makes_the_same_weights(made):
    jax.tree.map(np.testing.assert_array_equal, made.backbone.frozen, train().backbone.frozen)


def test_held_out_documents_are_never_trained_on():
    with pytest.raises(InputError, match="ended before step 1 of 40"):
        pretrain(CONFIG, TOKENIZER, TEXTS, TEXTS, PLAN, seed=0, progress=False)


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("rows", 0), ("row_length", 1), ("warmup", 40)])
def test_a_plan_that_cannot_be_is_refused(field, value):
    with pytest.raises(InputError, match=field):
        Plan(**{**vars(PLAN), field: value})


def test_transformers_reads_the_result_and_computes_the_same(made, tmp_path):
    save(tmp_path / "model", CONFIG, jax.device_get(made.backbone.frozen), TOKENIZER)
    assert_equals_transformers(tmp_path / "model", ["red blue grey\n", "black"])
