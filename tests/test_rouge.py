"""ROUGE-L is that of `rouge_score`, to the last bit, however often texts and words recur."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from profit_jax.metrics import rouge_l

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
words = st.sampled_from(
    ["cat", "cats", "Running", "runs", "ran", "dogs'", "U.S.", "don't", "é", "ﬁne", "42", ",", "", "_"]
)
texts = st.one_of(st.lists(words, max_size=9).map(" ".join), st.text(max_size=12))


@settings(max_examples=300)
@given(texts, st.lists(texts, min_size=1, max_size=4).map(tuple))
def test_scores_are_those_of_rouge_score(prediction, references):
    expected = SCORER.score_multi(references, prediction)["rougeL"].fmeasure
    assert rouge_l(prediction, references) == expected
    assert rouge_l(prediction, references[::-1]) == SCORER.score_multi(references[::-1], prediction)["rougeL"].fmeasure


def test_a_pair_is_scored_once():
    before = rouge_l.cache_info()
    for _ in range(3):
        rouge_l("an answer that no other test gives", ("a reference", "another"))
    after = rouge_l.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)
