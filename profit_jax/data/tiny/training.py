"""The task types that are trained on, by clients and, explained, in the pretraining of the embedded model."""

from profit_jax.data.tiny import forms, lexicon, world
from profit_jax.data.tiny.rules import YES, choices, rules
from profit_jax.data.tiny.world import article, capital, pick

TRAIN = [
    *rules(
        "Keyword Tagging",
        world.scene,
        {
            "Name the thing.": lambda s: s.noun,
            "Name the thing and its colour.": lambda s: s.thing,
            "Name the place.": lambda s: s.place,
            "Name the time of day.": lambda s: s.time,
            "Name the thing and the place.": lambda s: f"{s.noun} {s.place}",
        },
    ),
    *rules(
        "Named Entity Recognition",
        world.scene,
        {
            "Name the person.": lambda s: s.name,
            "Name the person and the place.": lambda s: f"{s.name} {s.place}",
            "Name the person and the thing.": lambda s: f"{s.name} {s.noun}",
            "Name the place and the person.": lambda s: f"{s.place} {s.name}",
        },
    ),
    *rules(
        "Pos Tagging",
        world.scene,
        {
            "Find the verb.": lambda s: s.past,
            "Find the adjective.": lambda s: s.colour,
            "Give the verb in its base form.": lambda s: s.verb,
        },
    ),
    *rules(
        "Text Categorization",
        world.scene,
        {
            "Is it an animal, a food, a tool or a toy?": lambda s: s.kind,
            "How does the person feel?": lambda s: s.feeling,
        },
    ),
    *choices(
        "Text Categorization", world.scene, "it happened indoors", lambda s: s.indoors, ["indoors/outdoors", *YES]
    ),
    *choices("Coreference Resolution", world.scene, "the person is a girl", lambda s: s.female, ["she/he", "her/him"]),
    *rules(
        "Coreference Resolution",
        world.scene,
        {"Put a pronoun for the person.": lambda s: f"{capital(s.she)} {s.past} it."},
    ),
    *rules(
        "Summarization",
        world.story,
        {
            "Say in short what happened first.": lambda t: t.first.short,
            "Say in short what happened last.": lambda t: t.second.short,
            "Say who did something.": lambda t: f"{t.first.name} and {t.second.name}",
        },
    ),
    *rules(
        "Title Generation",
        world.scene,
        {
            "Write a title about the thing.": lambda s: f"The {s.thing}",
            "Write a title about the person.": lambda s: f"{s.name} and the {s.noun}",
            "Write a title about the place.": lambda s: f"A {s.noun} in the {s.place}",
        },
    ),
    *rules(
        "Paraphrasing",
        world.scene,
        {
            "Say it in the passive.": lambda s: f"The {s.noun} was {s.participle} by {s.name}.",
            "Say it with the place first.": lambda s: f"In the {s.place}, {s.name} {s.past} the {s.noun}.",
            "Say it with a pronoun.": lambda s: f"{capital(s.she)} {s.past} the {s.noun}.",
        },
    ),
    *rules(
        "Story Composition",
        world.scene,
        {
            "Go on with the feeling.": lambda s: f"{capital(s.she)} was {s.feeling}.",
            "Go on with the reason.": lambda s: f"{capital(s.reason)}.",
            "Go on with the way home.": lambda s: f"Then {s.she} left the {s.place}.",
        },
    ),
    *rules("Fill in The Blank", forms.blank("noun"), {"Fill the gap.": lambda c: c[1]}, lambda c: c[0]),
    *rules("Fill in The Blank", forms.blank("place"), {"Find the missing word.": lambda c: c[1]}, lambda c: c[0]),
    *rules("Fill in The Blank", forms.blank("colour"), {"What stands in the gap?": lambda c: c[1]}, lambda c: c[0]),
    *rules(
        "Question Answering",
        forms.asked,
        {
            "Answer the question.": forms.asked_answer,
            "Answer in a whole sentence.": forms.asked_sentence,
            "Answer and name the person.": lambda c: f"{c[0].asked.name}: {forms.asked_answer(c)}",
        },
        forms.asked_query,
    ),
    *rules(
        "Question Rewriting",
        forms.asked,
        {
            "Ask the question again without the story.": lambda c: c[0].asked.question(c[1]),
            "Ask for the place instead.": lambda c: c[0].asked.question("where"),
            "Ask for the time instead.": lambda c: c[0].asked.question("when"),
            "Ask for the person instead.": lambda c: c[0].asked.question("who"),
        },
        forms.asked_query,
    ),
    *choices(
        "Sentiment Analysis",
        world.review,
        "the opinion is good",
        lambda r: r.positive,
        ["positive/negative", "good/bad", "up/down"],
    ),
    *choices(
        "Sentiment Analysis",
        world.review,
        "the day is praised",
        lambda r: r.called,
        ["praise/blame"],
        lambda r: r.remark,
    ),
    *choices(
        "Textual Entailment",
        forms.claimed,
        "the second sentence follows",
        lambda c: c[2],
        [*YES, "follows/contradicts"],
        lambda c: f"{c[0].text} {c[1]}",
    ),
    *choices(
        "Text Matching",
        world.review,
        "all sentences feel the same",
        lambda r: r.positive == r.called,
        ["same/different", *YES],
        lambda r: r.remark,
    ),
    *rules(
        "Sentence Compression",
        world.story,
        {
            "Name both things.": lambda t: f"{t.first.noun} {t.second.noun}",
            "Name both places.": lambda t: f"{t.first.place} {t.second.place}",
            "Name the last thing and its colour.": lambda t: t.second.thing,
        },
    ),
    *rules(
        "Entity Generation",
        forms.matched,
        {"Name the first thing.": lambda p: p.first.noun, "Name the last place.": lambda p: p.second.place},
    ),
    *choices(
        "Entity Relation Classification",
        forms.matched,
        "both sentences name the same thing",
        lambda p: p.shared == "noun",
        YES,
    ),
    *[
        rule
        for language in lexicon.LANGUAGES
        for rule in (
            *rules(
                "Translation",
                world.phrase,
                {f"Translate to {language}.": lambda p, to=language: p.foreign(to)},
                lambda p: p.english,
            ),
            *rules(
                "Translation",
                world.phrase,
                {f"Translate from {language}.": lambda p: p.english},
                lambda p, of=language: p.foreign(of),
            ),
        )
    ],
    *rules(
        "Language Identification",
        lambda draw: (world.phrase(draw), pick(draw, lexicon.LANGUAGES)),
        {"Name the language.": lambda c: c[1]},
        lambda c: c[0].foreign(c[1]),
    ),
    *rules(
        "Program Execution",
        forms.word_list,
        {
            "Give the first word.": lambda w: w[0],
            "Give the last word.": lambda w: w[-1],
            "Turn the words around.": lambda w: " ".join(w[::-1]),
            "Leave out the first word.": lambda w: " ".join(w[1:]),
            "Say the first word twice.": lambda w: f"{w[0]} {w[0]}",
            "Give the first and the last word.": lambda w: f"{w[0]} {w[-1]}",
            "Count the words.": lambda w: lexicon.DIGITS[len(w)],
        },
        " ".join,
    ),
    *rules("Number Conversion", forms.digits, {"Write the digits.": forms.written}, forms.spelt),
    *rules(
        "Number Conversion",
        forms.digits,
        {"Write the digits backwards.": lambda d: forms.written(d[::-1])},
        forms.spelt,
    ),
    *rules("Number Conversion", forms.digits, {"Write the words.": forms.spelt}, forms.written),
    *rules("Grammar Error Correction", forms.wrong, {"Correct the sentence.": forms.right}, forms.mistaken),
    *choices(
        "Grammar Error Detection",
        forms.wrong,
        "the verb is wrong",
        lambda c: bool(c[1]),
        ["verb/article", *YES],
        forms.mistaken,
    ),
    *rules(
        "Intent Identification",
        world.talk,
        {
            "What is the thing they speak of?": lambda d: d.noun,
            "Say who spoke and what for.": lambda d: f"{d.speakers[1]}: {d.act}",
        },
    ),
    *choices(
        "Intent Identification",
        world.talk,
        "the last turn wants something",
        lambda d: d.act in ("request", "question"),
        YES,
    ),
    *choices(
        "Intent Identification",
        world.talk,
        "the last turn is kind",
        lambda d: d.act in ("greeting", "thanks", "offer"),
        ["kind/plain"],
    ),
    *rules(
        "Speaker Identification",
        world.talk,
        {"Who spoke first?": lambda d: d.speakers[0], "Who spoke last?": lambda d: d.speakers[1]},
    ),
    *rules(
        "Word Semantics",
        forms.opposite,
        {"Say the opposite.": lambda c: c[1], "Say both.": lambda c: f"{c[0]} {c[1]}"},
        lambda c: c[0],
    ),
    *rules(
        "Word Semantics",
        lambda d: pick(d, lexicon.NOUNS),
        {
            "What kind of thing is it?": lambda n: lexicon.KIND[n],
            "Explain the word.": lambda n: (
                f"{capital(article(n))} {n} is {article(lexicon.KIND[n])} {lexicon.KIND[n]}."
            ),
        },
        str,
    ),
]
