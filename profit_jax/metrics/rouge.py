"""ROUGE-L, the score of Profit (Lin 2004), through the package `rouge_score`.

Nearly all its time goes into stemming words. Words, texts and pairs of answer and references recur (a class name, an
empty string, the references in every evaluation), so each is worked on once and then looked up.
"""

import functools

from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer
from rouge_score.tokenize import tokenize

_remembered = functools.lru_cache(1 << 20)


class _Tokenizer:
    """The words of a text, as `rouge_score`'s own tokenizer finds and stems them."""

    def __init__(self):
        # Stemmed, as the evaluation of Super-NaturalInstructions does, which Profit follows.
        self.stem = _remembered(PorterStemmer().stem)
        self.tokenize = _remembered(functools.partial(tokenize, stemmer=self))


@functools.cache
def _scorer() -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Tokenizer())


@_remembered
def rouge_l(prediction: str, references: tuple[str, ...]) -> float:
    """F-measure of the longest common subsequence of words, the maximum over references; in [0, 1].

    >>> rouge_l("the cat sat", ("a dog ran", "the cat sat down"))
    0.8571428571428571
    """
    scores = _scorer().score_multi(references, prediction)
    return float(scores["rougeL"].fmeasure)
