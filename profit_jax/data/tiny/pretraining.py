"""What the embedded model is pretrained on: text about the small world, and tasks of the training types, explained.

A task is done after its definition, after examples, or at least after the name of its type. A query by itself, as a
client's is, is followed by some other text, as questions often are in text: that it is to be answered, and by which
rule, is what a soft prompt has to call up. Requests that leave the answer open are answered in all the ways of the
instruction set, so that an adapter has a way to choose, not to learn.
"""

import itertools
from collections.abc import Iterator

from profit_jax.data.instructions import render
from profit_jax.data.tiny import lexicon, responses, world
from profit_jax.data.tiny.forms import Draw
from profit_jax.data.tiny.rules import Rule
from profit_jax.data.tiny.training import TRAIN
from profit_jax.data.tiny.world import article, capital, pick
from profit_jax.rng import generator

# Labels that definitions bind anew in every other document, so that binding a label is a skill of the model's.
LABELS = lexicon.words(
    "yes no true false good bad positive negative same different right wrong up down kind plain one two up old new big "
    "small hot cold girl boy woman man female male sincere ironic asking telling known unknown sense nonsense praise "
    "blame she he irony"
)


def documents(seed: int) -> Iterator[tuple[str, str]]:
    """An endless stream of (context, answer): what is read, and what the model is to say after it.

    Of the documents 12 % are words to be said again, 5 % text without a context, 8 % text after a query, 10 % a task
    after examples in the form of Wang et al. 2022, 15 % a task after its type's name or nothing but a request, 5 % a
    task after its definition in Alpaca's form, 7 % a response of the instruction set in that form, 38 % a task after
    its definition.
    """
    for number in itertools.count():
        draw = generator(seed, "documents", number)
        yield document(draw)


def document(draw: Draw) -> tuple[str, str]:
    """Draws one."""
    share = draw.random()
    if share < 0.12:
        return echo(draw)
    if share < 0.17:
        return "", text(draw)
    rule = TRAIN[int(draw.integers(len(TRAIN)))]
    labels = [LABELS[i] for i in draw.choice(len(LABELS), len(rule.labels), replace=False)] if draw.integers(2) else []
    if share < 0.25:
        return f"{rule.instance(draw, labels)[0]}\n", text(draw)
    if share < 0.35:
        return shots(draw, rule, labels)
    named = share >= 0.5  # else the definition does not stand there, and labels of its own could not be known
    query, answer = rule.instance(draw, labels if named else ())
    if not named:
        return f"{pick(draw, [f'{rule.type}.', 'Do the task.'])}\n{query}\n", answer
    if share < 0.55:
        return f"{render(rule.define(labels), query)}\n", answer
    if share < 0.62:
        return response(draw)
    return f"{rule.define(labels)}\n{query}\n", answer


def echo(draw: Draw) -> tuple[str, str]:
    """Words of all sorts, to be said again: what every rule that copies is made of, in its densest form."""
    words = " ".join(lexicon.WORDS[i] for i in draw.integers(len(lexicon.WORDS), size=int(draw.integers(4, 13))))
    return f"Say it again.\n{words}\n", words


def response(draw: Draw) -> tuple[str, str]:
    """A request that leaves the category open, and a response of any."""
    row = responses.row(draw, pick(draw, [*responses.CATEGORIES]))
    return f"{render(row['instruction'], row['context'])}\n", row["response"]


def shots(draw: Draw, rule: Rule, labels: list[str]) -> tuple[str, str]:
    """One or two solved examples, with or without the definition, and the next query."""
    parts = [f"Definition: {rule.define(labels)}"] if draw.integers(2) else []
    for number in range(1, int(draw.integers(2, 4))):
        query, answer = rule.instance(draw, labels)
        parts.append(f"Positive Example {number} -\nInput: {query}\nOutput: {answer}")
    query, answer = rule.instance(draw, labels)
    parts.append(f"Now complete the following example -\nInput: {query}\nOutput:\n")
    return "\n\n".join(parts), answer


def text(draw: Draw) -> str:
    """Draws a story, a talk, an exchange of question and answer, a comparison or a fact."""
    return _TEXTS[int(draw.integers(len(_TEXTS)))](draw)


def _tale(draw: Draw) -> str:
    scene = world.scene(draw)
    why = f"{capital(scene.she)} {scene.past} the {scene.noun} because {scene.reason}."
    end = pick(draw, [f"{capital(scene.she)} was {scene.feeling}.", why, f"Then {scene.she} left the {scene.place}."])
    return f"{scene.text} {end}"


def _exchange(draw: Draw) -> str:
    scene, word = world.scene(draw), pick(draw, lexicon.WORDS_OF_QUESTIONS)
    return f"{scene.text} {scene.question(word)} {capital(scene.answer(word))}."


def _talk(draw: Draw) -> str:
    talk = world.talk(draw)
    act = talk.act
    return f"{talk.text} {talk.speakers[0]}: {talk.reply} That was {article(act)} {act}."


def _retold(draw: Draw) -> str:
    scene = world.scene(draw)
    return f"{scene.text} {scene.name} {scene.past} the {scene.thing} in the {scene.place} {lexicon.TIMES[scene.time]}."


def _fact(draw: Draw) -> str:
    female = bool(draw.integers(2))
    name, noun = pick(draw, lexicon.FEMALE if female else lexicon.MALE), pick(draw, lexicon.NOUNS)
    word = pick(draw, ["girl", "woman"] if female else ["boy", "man"])
    kind = lexicon.KIND[noun]
    return pick(
        draw,
        [
            f"{name} is a {word}.",
            f"{name} is {'female' if female else 'male'}.",
            f"{capital(article(noun))} {noun} is {article(kind)} {kind}.",
            f"{name} ate {article(noun)} {noun}." if kind == "food" else f"Nobody eats {article(noun)} {noun}.",
        ],
    )


def _opinion(draw: Draw) -> str:
    review = world.review(draw)
    if review.positive == review.called:
        return f"{review.remark} It was {'praise' if review.called else 'blame'}, and it was meant."
    return f"{review.remark} It was not meant."


def _shared(draw: Draw) -> str:
    pair = world.pair(draw, pick(draw, ["noun", "place", "name"]))
    word = getattr(pair.first, pair.shared)
    return f"{pair.text} Both speak of {word if pair.shared == 'name' else f'the {word}'}."


_TEXTS = (_tale, _tale, _exchange, _exchange, _talk, _retold, _fact, _opinion, _shared)
