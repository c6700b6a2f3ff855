"""Differences between runs over seeds: means and Student's t intervals; and the best of several.

Differences are paired by seed: a seed draws the same clients, examples and start in both runs.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

Name = TypeVar("Name")  # of what is compared

CONFIDENCE = 0.95
# What is found of A, beside B, where a paper is right.
AGREES = {
    "higher": {"higher"},
    "lower": {"lower"},
    "alike": {"not told apart"},
    "not higher": {"lower", "not told apart"},
    "not lower": {"higher", "not told apart"},
}
FOUND = ("higher", "lower", "not told apart", "no interval")
TOLERANCE = 0.05  # of the highest value: what counts as good as the best where a second measure decides


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % t interval; None where it takes more seeds than there are."""

    mean: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The estimate from one value a seed."""
        return cls(float(np.mean(values)) if len(values) else None, *interval(values))

    def text(self, sign: str = "") -> str:
        """Four digits; - where there is no number."""
        if self.mean is None or self.low is None:
            return "-" if self.mean is None else f"{self.mean:{sign}.4g}"
        return f"{self.mean:{sign}.4g} ({self.low:{sign}.4g} to {self.high:{sign}.4g})"


class Difference(NamedTuple):
    """A - B over the seeds that both have."""

    seeds: tuple[int, ...]
    a: Estimate
    b: Estimate
    difference: Estimate

    @property
    def found(self) -> str:
        """What the interval tells of A, beside B."""
        if self.difference.low is None or self.difference.high is None:
            return "no interval"
        return "higher" if self.difference.low > 0 else "lower" if self.difference.high < 0 else "not told apart"


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Student's t interval of the mean."""
    if len(values) < 2:
        return None, None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def difference(pairs: Mapping[int, tuple[float, float]]) -> Difference:
    """The difference of the pairs (A, B), by seed."""
    a, b = ([pair[side] for pair in pairs.values()] for side in (0, 1))
    each = [one - other for one, other in pairs.values()]
    return Difference(tuple(pairs), Estimate.of(a), Estimate.of(b), Estimate.of(each))


def agreement(paper: str, found: str) -> str:
    """How what was found stands to what a paper says of A, beside B; nothing where the paper does not say.

    An interval that holds zero is as "alike" asks for, though it is no proof of it; it speaks neither for nor against
    a paper that says "higher" or "lower".

    >>> agreement("higher", "lower")
    'otherwise'
    """
    if not paper or found == "no interval":
        return paper and "no interval"
    if found in AGREES[paper]:
        return "as the paper says"
    return "otherwise" if found != "not told apart" else "not told apart"


def best(values: Mapping[Name, Sequence[float]]) -> Name:
    """The name with the highest value; with second values, of those within 5 % of it the one highest there."""
    highest = max(each[0] for each in values.values())
    good = [name for name, each in values.items() if each[0] >= (1 - TOLERANCE) * highest]
    return max(good, key=lambda name: values[name][-1])
