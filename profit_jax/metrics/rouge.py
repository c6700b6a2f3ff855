"""ROUGE-L, the score of Profit (Lin 2004), through the package `rouge_score`."""

import functools
from collections.abc import Sequence

import numpy as np
from rouge_score import rouge_scorer


@functools.cache
def _scorer() -> rouge_scorer.RougeScorer:
    # Stemmed, as the evaluation of Super-NaturalInstructions does, which Profit follows.
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


@functools.lru_cache(1 << 20)
def rouge_l(prediction: str, references: tuple[str, ...]) -> float:
    """F-measure of the longest common subsequence of words, the maximum over references; in [0, 1].

    Answers repeat (a class name, an empty string), so pairs seen before are looked up.

    >>> rouge_l("the cat sat", ("a dog ran", "the cat sat down"))
    0.8571428571428571
    """
    scores = _scorer().score_multi(references, prediction)
    return float(scores["rougeL"].fmeasure)


def rouge_ls(predictions: Sequence[str], references: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Scores of many answers, `[n]` float64."""
    return np.array([rouge_l(text, tuple(accepted)) for text, accepted in zip(predictions, references)])
