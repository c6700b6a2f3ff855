"""The queries of the corpus beyond plain texts: questions, claims, gaps, lists, steps, mistakes.

A form draws a case: whatever its query and the answers to it are read from.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from profit_jax.data.tiny import lexicon, world
from profit_jax.data.tiny.world import article, capital, pick, sample

Draw = np.random.Generator
Form = Callable[[Draw], Any]  # draws a case


def asked(draw: Draw) -> tuple[world.Story, str]:
    """A story, and the word that it is asked about with."""
    return world.story(draw), pick(draw, lexicon.WORDS_OF_QUESTIONS)


def asked_query(case: tuple[world.Story, str]) -> str:
    """The story and the question."""
    story, word = case
    return f"{story.text} {story.asked.question(word)}"


def asked_answer(case: tuple[world.Story, str]) -> str:
    """The short answer."""
    story, word = case
    return story.asked.answer(word)


def asked_sentence(case: tuple[world.Story, str]) -> str:
    """The answer as a sentence."""
    scene, word = case[0].asked, case[1]
    deed = f"{scene.name} {scene.past} the {scene.noun}"
    return {
        "where": f"{deed} in the {scene.place}.",
        "when": f"{deed} {lexicon.TIMES[scene.time]}.",
        "who": f"{deed}.",
        "what": f"{deed}.",
        "colour": f"The {scene.noun} was {scene.colour}.",
    }[word]


def claimed(draw: Draw) -> tuple[world.Scene, str, bool]:
    """A scene and a claim about it, true or false."""
    scene, other, true = world.scene(draw), world.story(draw).second, bool(draw.integers(2))
    place = scene.place if true or other.place == scene.place else other.place
    return scene, f"The {scene.noun} was in the {place}.", place == scene.place


def verified(draw: Draw) -> tuple[str, bool, tuple[world.Story, str]]:
    """A story with a question and an answer to it, right or wrong; and what was asked."""
    (story, word), right = asked(draw), bool(draw.integers(2))
    other = story.second if story.asked == story.first else story.first
    given = story.asked.answer(word) if right else other.answer(word)
    query = f"{story.text} {story.asked.question(word)} {capital(given)}."
    return query, given == story.asked.answer(word), (story, word)


def answerable(draw: Draw) -> tuple[str, bool, world.Scene]:
    """A scene and a question about it or about another; and the scene that is told."""
    story, word, known = world.story(draw), pick(draw, ["where", "when", "who", "colour"]), bool(draw.integers(2))
    return f"{story.first.text} {(story.first if known else story.second).question(word)}", known, story.first


def blank(field: str) -> Form:
    """A scene told twice, the second time with a gap where that field was."""

    def form(draw: Draw) -> tuple[str, str]:
        scene = world.scene(draw)
        word = getattr(scene, field)
        again = f"{scene.name} {scene.past} the {scene.thing} in the {scene.place}."
        return f"{scene.text} {again.replace(word, '___', 1)}", word

    return form


def broken_off(field: str) -> Form:
    """A scene told twice, the second time broken off before that field."""

    def form(draw: Draw) -> tuple[str, str]:
        scene = world.scene(draw)
        again = f"{scene.name} {scene.past} the {scene.thing} in the {scene.place} {lexicon.TIMES[scene.time]}."
        start = again.index(getattr(scene, field))
        rest = again[start:]
        return f"{scene.text} {again[:start].strip()}", rest

    return form


def word_list(draw: Draw) -> list[str]:
    """Three to five nouns."""
    return sample(draw, lexicon.NOUNS, int(draw.integers(3, 6)))


def digits(draw: Draw) -> list[int]:
    """Two to four digits."""
    return draw.integers(10, size=int(draw.integers(2, 5))).tolist()


def spelt(digits: list[int]) -> str:
    """Digits in words."""
    return " ".join(lexicon.DIGITS[digit] for digit in digits)


def written(digits: list[int]) -> str:
    """Digits in figures."""
    return " ".join(map(str, digits))


def two_nouns(draw: Draw) -> tuple[str, str]:
    """Two nouns, as often of one kind as not."""
    one, same = pick(draw, lexicon.NOUNS), bool(draw.integers(2))
    others = [n for n in lexicon.NOUNS if n != one and (lexicon.KIND[n] == lexicon.KIND[one]) == same]
    return one, pick(draw, others)


def matched(draw: Draw) -> world.Pair:
    """Two scenes that share something, as often the thing as not."""
    return world.pair(draw, "noun" if draw.integers(2) else pick(draw, ["place", "name", "colour"]))


def steps(draw: Draw) -> tuple[str, list[int], list[str], world.Scene]:
    """Three steps of a deed in some order, each one's place in time; the steps as told, and the scene."""
    scene = world.scene(draw)
    steps = [
        f"{scene.name} went to the {scene.place}.",
        f"{scene.name} {scene.past} the {scene.noun}.",
        f"{scene.name} went home.",
    ]
    order = draw.permutation(3).tolist()
    told = [steps[i] for i in order]
    return " ".join(told), [i + 1 for i in order], told, scene


def wrong(draw: Draw) -> tuple[world.Scene, int]:
    """A scene, and which mistake its sentence gets."""
    return world.scene(draw), int(draw.integers(2))


def mistaken(case: tuple[world.Scene, int]) -> str:
    """The scene's sentence with the verb or the article wrong."""
    scene, kind = case
    if kind:
        return scene.text.replace(f" {scene.past} ", f" {scene.verb} ", 1)
    return scene.text.replace(f" {article(scene.colour)} {scene.thing}", f" {scene.thing}", 1)


def right(case: tuple[world.Scene, int]) -> str:
    """The sentence without the mistake."""
    return case[0].text


def mad(draw: Draw) -> tuple[str, bool, str, str]:
    """What somebody did with food or with something that is none; and that thing and the place."""
    name, food, place = pick(draw, [*lexicon.FEMALE, *lexicon.MALE]), bool(draw.integers(2)), pick(draw, lexicon.PLACES)
    noun = pick(draw, lexicon.KINDS["food" if food else pick(draw, ["tool", "toy"])])
    return f"{name} ate {article(noun)} {noun} in the {place}.", food, noun, place


def opposite(draw: Draw) -> tuple[str, str]:
    """A word and its opposite."""
    return pick(draw, list(lexicon.OPPOSITES.items()))


def noun(draw: Draw) -> str:
    """One noun."""
    return pick(draw, lexicon.NOUNS)


def two_numbers(draw: Draw) -> list[int]:
    """Two numbers below 50."""
    return draw.integers(50, size=2).tolist()


def first(case: Any) -> Any:
    """The first part of a case that is a tuple, mostly its query."""
    return case[0]


def second(case: Any) -> Any:
    """The second part of a case that is a tuple, mostly its answer."""
    return case[1]


def remark(case: world.Review) -> str:
    """The opinion, and what it comes to."""
    return case.remark


def english(case: world.Phrase) -> str:
    """The phrase in English."""
    return case.english
