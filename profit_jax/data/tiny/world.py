"""Texts about the small world: scenes, stories, reviews, talks, phrases.

A text is drawn with the facts that it states, so that a task is a rule from facts to an answer. Every draw comes from
the generator that is passed in.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from profit_jax.data.tiny import lexicon

T = TypeVar("T")


def pick(draw: np.random.Generator, choices: Sequence[T]) -> T:
    """One of them."""
    return choices[int(draw.integers(len(choices)))]


def sample(draw: np.random.Generator, choices: Sequence[str], count: int) -> list[str]:
    """So many different ones of them."""
    return [choices[i] for i in draw.choice(len(choices), count, replace=False)]


def article(word: str) -> str:
    """The indefinite article before the word."""
    return "an" if word[0] in "aeiou" else "a"


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[0].upper() + text[1:]


@dataclasses.dataclass(frozen=True)
class Scene:
    """Somebody did something to a thing, somewhere, at some time."""

    name: str
    verb: str  # base form
    colour: str
    noun: str
    place: str
    time: str
    order: int  # which of the sentences below

    @property
    def female(self) -> bool:
        """Whether the person is a girl."""
        return self.name in lexicon.FEMALE

    @property
    def she(self) -> str:
        """The person's pronoun."""
        return "she" if self.female else "he"

    @property
    def past(self) -> str:
        """The verb as the text has it."""
        return lexicon.PASTS[self.verb]

    @property
    def participle(self) -> str:
        """The verb as the passive has it."""
        return lexicon.PARTICIPLES.get(self.verb, self.past)

    @property
    def kind(self) -> str:
        """What sort of thing it is."""
        return lexicon.KIND[self.noun]

    @property
    def indoors(self) -> bool:
        """Whether the place has a roof."""
        return self.place in lexicon.INDOORS

    @property
    def thing(self) -> str:
        """Colour and noun."""
        return f"{self.colour} {self.noun}"

    @property
    def feeling(self) -> str:
        """How the person felt after it."""
        return lexicon.FEELINGS[self.verb][0]

    @property
    def reason(self) -> str:
        """Why the person did it."""
        return lexicon.FEELINGS[self.verb][1].format(she=self.she)

    @property
    def short(self) -> str:
        """The sentence without colour, place and time."""
        return f"{self.name} {self.past} {article(self.noun)} {self.noun}."

    @property
    def text(self) -> str:
        """The sentence, in one of three word orders."""
        deed = f"{self.name} {self.past} {article(self.colour)} {self.thing}"
        place, time = f"in the {self.place}", lexicon.TIMES[self.time]
        return (f"{deed} {place} {time}.", f"{capital(place)}, {deed} {time}.", f"{capital(time)} {deed} {place}.")[
            self.order
        ]

    def question(self, word: str) -> str:
        """Asks for the place, time, person, thing or colour of the scene."""
        deed = f"did {self.name} {self.verb} the {self.noun}?"
        return {
            "where": f"Where {deed}",
            "when": f"When {deed}",
            "who": f"Who {self.past} the {self.noun}?",
            "what": f"What did {self.name} {self.verb} in the {self.place}?",
            "colour": f"What colour was the {self.noun}?",
        }[word]

    def answer(self, word: str) -> str:
        """The short answer to that question."""
        return {
            "where": self.place,
            "when": self.time,
            "who": self.name,
            "what": self.noun,
            "colour": self.colour,
        }[word]


def scene(draw: np.random.Generator) -> Scene:
    """Draws a scene."""
    return Scene(
        pick(draw, lexicon.FEMALE if draw.integers(2) else lexicon.MALE),
        pick(draw, [*lexicon.PASTS]),
        pick(draw, lexicon.COLOURS),
        pick(draw, lexicon.NOUNS),
        pick(draw, lexicon.PLACES),
        pick(draw, [*lexicon.TIMES]),
        int(draw.integers(3)),
    )


@dataclasses.dataclass(frozen=True)
class Story:
    """Two scenes that have nothing in common, and which of them is asked about."""

    first: Scene
    second: Scene
    asked: Scene

    @property
    def text(self) -> str:
        """Both sentences."""
        return f"{self.first.text} {self.second.text}"


def story(draw: np.random.Generator) -> Story:
    """Draws two scenes until nothing but the word order is shared."""
    first = second = scene(draw)
    while any(getattr(first, field) == getattr(second, field) for field in ("name", "verb", "colour", "noun", "place")):
        second = scene(draw)
    second = dataclasses.replace(second, order=0)
    return Story(first, second, first if draw.integers(2) else second)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two scenes that share one thing, place, person or colour."""

    first: Scene
    second: Scene
    shared: str  # the field: noun, place, name, colour

    @property
    def text(self) -> str:
        """Both sentences."""
        return f"{self.first.text} {self.second.text}"


def pair(draw: np.random.Generator, shared: str) -> Pair:
    """Draws a story, then makes that field of the second scene the first's."""
    both = story(draw)
    return Pair(both.first, dataclasses.replace(both.second, **{shared: getattr(both.first, shared)}), shared)


@dataclasses.dataclass(frozen=True)
class Review:
    """What somebody thinks of two things, and then calls the whole; the call may belie the rest."""

    first: str
    second: str
    positive: bool
    called: bool  # whether the last sentence is positive
    adjectives: tuple[str, str, str]

    @property
    def text(self) -> str:
        """The opinion alone."""
        return f"The {self.first} was {self.adjectives[0]} and the {self.second} was {self.adjectives[1]}."

    @property
    def remark(self) -> str:
        """The opinion, and what it comes to."""
        return f"{self.text} What {article(self.adjectives[2])} {self.adjectives[2]} day!"


def review(draw: np.random.Generator) -> Review:
    """Draws an opinion."""
    positive, called = bool(draw.integers(2)), bool(draw.integers(2))
    one, two = sample(draw, lexicon.GOOD if positive else lexicon.BAD, 2)
    first, second = sample(draw, lexicon.SUBJECTS, 2)
    return Review(
        first,
        second,
        positive,
        called,
        (one, two, pick(draw, lexicon.GOOD if called else lexicon.BAD)),
    )


@dataclasses.dataclass(frozen=True)
class Talk:
    """Two turns; `act` is what the second one does."""

    speakers: tuple[str, str]
    noun: str
    place: str
    acts: tuple[str, str]
    styles: tuple[int, int]

    def turn(self, at: int) -> str:
        """What is said."""
        return lexicon.ACTS[self.acts[at]][self.styles[at]].format(
            you=self.speakers[1 - at], noun=self.noun, place=self.place
        )

    @property
    def text(self) -> str:
        """Both turns, each with its speaker."""
        return f"{self.speakers[0]}: {self.turn(0)} {self.speakers[1]}: {self.turn(1)}"

    @property
    def last(self) -> str:
        """The second turn, with its speaker."""
        return f"{self.speakers[1]}: {self.turn(1)}"

    @property
    def act(self) -> str:
        """What the second turn does."""
        return self.acts[1]

    @property
    def reply(self) -> str:
        """What the first speaker says to the second turn."""
        return lexicon.REPLIES[self.act].format(you=self.speakers[1], noun=self.noun, place=self.place)


def talk(draw: np.random.Generator) -> Talk:
    """Draws a talk."""
    acts = pick(draw, [*lexicon.ACTS]), pick(draw, [*lexicon.ACTS])
    styles = draw.integers(2, size=2).tolist()
    one, other = sample(draw, [*lexicon.FEMALE, *lexicon.MALE], 2)
    return Talk((one, other), pick(draw, lexicon.NOUNS), pick(draw, lexicon.PLACES), acts, tuple(styles))


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A deed that can be said in every language."""

    name: str
    verb: str
    colour: str
    noun: str

    @property
    def english(self) -> str:
        """In English."""
        return f"{self.name} {lexicon.PASTS[self.verb]} {article(self.colour)} {self.colour} {self.noun}."

    def foreign(self, language: str) -> str:
        """In an invented language: Lomi has English's order, Tarsk puts the thing first, Vuni the verb last."""
        verb, colour, noun = (lexicon.DICTIONARIES[language][word] for word in (self.verb, self.colour, self.noun))
        return {
            "Lomi": f"{self.name} {verb} {colour} {noun}.",
            "Tarsk": f"{colour} {noun} {verb} {self.name}.",
            "Vuni": f"{self.name} {noun} {colour} {verb}.",
        }[language]


def phrase(draw: np.random.Generator) -> Phrase:
    """Draws a phrase."""
    verb, colour, noun = (
        pick(draw, words) for words in (lexicon.SHARED_VERBS, lexicon.SHARED_COLOURS, lexicon.SHARED_NOUNS)
    )
    return Phrase(pick(draw, [*lexicon.FEMALE, *lexicon.MALE]), verb, colour, noun)
