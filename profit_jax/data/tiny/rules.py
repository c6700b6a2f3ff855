"""Rules: what a task asks of a text.

Tasks of one type read the same texts and answer them by different rules, so a query alone does not tell which rule is
meant. Types of different splits share texts too (scenes, stories, talks, reviews), and what a held-out type asks for is
made of what other types ask for: the tables are in `training` and `held_out`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from profit_jax.data.tiny.forms import Draw, Form

YES = ("yes/no", "true/false")


class Rule(NamedTuple):
    """A task: how a query and its answer are drawn.

    Where there are `labels`, the definition has a place for each, and the drawn answer is the number of one.
    """

    type: str
    definition: str
    make: Callable[[Draw], tuple[str, Any]]
    labels: tuple[str, ...] = ()

    def define(self, labels: Sequence[str] = ()) -> str:
        """The definition in words, with these labels instead of its own."""
        return self.definition.format(*(labels or self.labels))

    def instance(self, draw: Draw, labels: Sequence[str] = ()) -> tuple[str, str]:
        """Draws a query and its answer."""
        query, answer = self.make(draw)
        return query, (labels or self.labels)[int(answer)] if self.labels else answer


def rules(
    type: str, form: Form, answers: dict[str, Callable[[Any], str]], query: Callable[[Any], str] = lambda c: c.text
) -> list[Rule]:
    """A rule for each definition, all with the same queries."""

    def make(draw: Draw, answer: Callable[[Any], str]) -> tuple[str, str]:
        case = form(draw)
        return query(case), answer(case)

    return [Rule(type, definition, functools.partial(make, answer=answer)) for definition, answer in answers.items()]


def choices(
    type: str,
    form: Form,
    meaning: str,
    holds: Callable[[Any], bool],
    labels: Sequence[str],
    query: Callable[[Any], str] = lambda c: c.text,
) -> list[Rule]:
    """A rule for each pair of labels ("yes/no"): the first where `holds`, else the second."""

    def make(draw: Draw) -> tuple[str, int]:
        case = form(draw)
        return query(case), int(not holds(case))

    definition = f"Say {{0}} if {meaning}, else {{1}}."
    return [Rule(type, definition, make, tuple(pair.split("/"))) for pair in labels]
