"""Rules: what a task asks of a text.

Tasks of one type read the same texts and answer them by different rules. Some queries end in a cue, a word or two that
tell which rule is meant; the others are bare texts, as most inputs of Super-NaturalInstructions are, and do not tell. A
prompt for everybody can teach a model to heed the cues; the rule of a bare task is known to its clients alone.

Types of different splits share texts (scenes, stories, talks, reviews) and cues, and what a held-out type asks for is
made of what other types ask for: the tables are in `training` and `held_out`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from profit_jax.data.tiny.forms import Draw, Form

Read = Callable[[Any], str]  # a text, read from a case


class Rule(NamedTuple):
    """A task: how a query and its answer are drawn.

    Where there are `labels`, the definition and the cue have a place for each, and `make` draws the number of one.
    """

    type: str
    definition: str
    cue: str
    make: Callable[[Draw], tuple[str, Any]]
    labels: tuple[str, ...] = ()

    def define(self, labels: Sequence[str] = ()) -> str:
        """The definition in words, with these labels instead of its own."""
        return self.definition.format(*(labels or self.labels))

    def instance(self, draw: Draw, labels: Sequence[str] = ()) -> tuple[str, str]:
        """Draws a query and its answer."""
        query, answer = self.make(draw)
        words = labels or self.labels
        return f"{query} {self.cue.format(*words)}".strip(), words[int(answer)] if words else answer


def _text(case: Any) -> str:
    return case.text


def rules(type: str, form: Form, answers: Mapping[str, Read], query: Read = _text) -> list[Rule]:
    """A rule for each "Definition." or "Definition. | cue", all with the same queries."""

    def make(draw: Draw, answer: Read) -> tuple[str, str]:
        case = form(draw)
        return query(case), answer(case)

    made = []
    for asked, answer in answers.items():
        definition, _, cue = asked.partition(" | ")
        made.append(Rule(type, definition, cue, functools.partial(make, answer=answer)))
    return made


def choices(
    type: str, form: Form, meaning: str, holds: Callable[[Any], bool], labels: Sequence[str], query: Read = _text
) -> list[Rule]:
    """A rule for each "yes/no", or "yes/no?" with both as a cue: the first where `holds`, else the second."""

    def make(draw: Draw) -> tuple[str, int]:
        case = form(draw)
        return query(case), int(not holds(case))

    definition = f"Say {{0}} if {meaning}, else {{1}}."
    return [
        Rule(type, definition, "{0} or {1}?" if pair.endswith("?") else "", make, tuple(pair.rstrip("?").split("/")))
        for pair in labels
    ]
