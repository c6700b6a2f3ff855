"""The task types that are trained on, by clients and, explained, in the pretraining of the embedded model."""

from profit_jax.data.tiny import forms, lexicon
from profit_jax.data.tiny.rules import choices, rules
from profit_jax.data.tiny.world import article, capital, phrase, pick, review, scene, story, talk

TRAIN = [
    *rules(
        "Keyword Tagging",
        scene,
        {
            "Name the thing.": lambda s: s.noun,
            "Name the colour and the thing. | colour, thing?": lambda s: s.thing,
            "Name the place. | place?": lambda s: s.place,
            "Name the time of day. | time?": lambda s: s.time,
            "Name the thing and the place.": lambda s: f"{s.noun} {s.place}",
        },
    ),
    *rules(
        "Named Entity Recognition",
        scene,
        {
            "Name the person. | person?": lambda s: s.name,
            "Name the person and the place.": lambda s: f"{s.name} {s.place}",
            "Name the person and the thing. | person, thing?": lambda s: f"{s.name} {s.noun}",
            "Name the place and the person. | place, person?": lambda s: f"{s.place} {s.name}",
        },
    ),
    *rules(
        "Pos Tagging",
        scene,
        {
            "Find the verb. | verb?": lambda s: s.past,
            "Find the adjective.": lambda s: s.colour,
            "Give the verb in its base form.": lambda s: s.verb,
        },
    ),
    *rules(
        "Text Categorization",
        scene,
        {
            "Is it an animal, a food, a tool or a toy? | animal, food, tool or toy?": lambda s: s.kind,
            "How does the person feel? | feeling?": lambda s: s.feeling,
        },
    ),
    *choices(
        "Text Categorization",
        scene,
        "it happened indoors",
        lambda s: s.indoors,
        ["indoors/outdoors?", "yes/no", "true/false"],
    ),
    *choices("Coreference Resolution", scene, "the person is a girl", lambda s: s.female, ["she/he?", "her/him"]),
    *rules(
        "Coreference Resolution",
        scene,
        {"Put a pronoun for the person.": lambda s: f"{capital(s.she)} {s.past} it."},
    ),
    *rules(
        "Summarization",
        story,
        {
            "Say in short what happened first. | first, short?": lambda t: t.first.short,
            "Say in short what happened last. | last, short?": lambda t: t.second.short,
            "Say who did something.": lambda t: f"{t.first.name} and {t.second.name}",
        },
    ),
    *rules(
        "Title Generation",
        scene,
        {
            "Write a title about the thing. | title, thing?": lambda s: f"The {s.thing}",
            "Write a title about the person. | title, person?": lambda s: f"{s.name} and the {s.noun}",
            "Write a title about the place.": lambda s: f"A {s.noun} in the {s.place}",
        },
    ),
    *rules(
        "Paraphrasing",
        scene,
        {
            "Say it in the passive. | passive?": lambda s: f"The {s.noun} was {s.participle} by {s.name}.",
            "Say it with the place first.": lambda s: f"In the {s.place}, {s.name} {s.past} the {s.noun}.",
            "Say it with a pronoun. | with a pronoun?": lambda s: f"{capital(s.she)} {s.past} the {s.noun}.",
        },
    ),
    *rules(
        "Story Composition",
        scene,
        {
            "Go on with the feeling. | and then?": lambda s: f"{capital(s.she)} was {s.feeling}.",
            "Go on with the reason. | the reason?": lambda s: f"{capital(s.reason)}.",
            "Go on with the way home.": lambda s: f"Then {s.she} left the {s.place}.",
        },
    ),
    *rules("Fill in The Blank", forms.blank("noun"), {"Fill the gap.": forms.second}, forms.first),
    *rules("Fill in The Blank", forms.blank("place"), {"Find the missing word.": forms.second}, forms.first),
    *rules("Fill in The Blank", forms.blank("colour"), {"What stands in the gap?": forms.second}, forms.first),
    *rules(
        "Question Answering",
        forms.asked,
        {
            "Answer the question.": forms.asked_answer,
            "Answer in a whole sentence. | in a sentence": forms.asked_sentence,
            "Answer and name the person.": lambda c: f"{c[0].asked.name}: {forms.asked_answer(c)}",
        },
        forms.asked_query,
    ),
    *rules(
        "Question Rewriting",
        forms.asked,
        {
            "Ask the question again without the story. | ask again": lambda c: c[0].asked.question(c[1]),
            "Ask for the place instead. | ask where": lambda c: c[0].asked.question("where"),
            "Ask for the time instead. | ask when": lambda c: c[0].asked.question("when"),
            "Ask for the person instead. | ask who": lambda c: c[0].asked.question("who"),
        },
        forms.asked_query,
    ),
    *choices(
        "Sentiment Analysis",
        review,
        "the opinion is good",
        lambda r: r.positive,
        ["positive/negative?", "good/bad?", "up/down"],
    ),
    *choices("Sentiment Analysis", review, "the day is praised", lambda r: r.called, ["praise/blame?"], forms.remark),
    *choices(
        "Textual Entailment",
        forms.claimed,
        "the second sentence follows",
        lambda c: c[2],
        ["yes/no?", "true/false", "follows/contradicts?"],
        lambda c: f"{c[0].text} {c[1]}",
    ),
    *choices(
        "Text Matching",
        review,
        "all sentences feel the same",
        lambda r: r.positive == r.called,
        ["same/different?", "yes/no", "true/false?"],
        forms.remark,
    ),
    *rules(
        "Sentence Compression",
        story,
        {
            "Name both things. | things?": lambda t: f"{t.first.noun} {t.second.noun}",
            "Name both places. | places?": lambda t: f"{t.first.place} {t.second.place}",
            "Name the last thing and its colour.": lambda t: t.second.thing,
        },
    ),
    *rules(
        "Entity Generation",
        forms.matched,
        {
            "Name the first thing. | first thing?": lambda p: p.first.noun,
            "Name the last place.": lambda p: p.second.place,
        },
    ),
    *choices(
        "Entity Relation Classification",
        forms.matched,
        "both sentences name the same thing",
        lambda p: p.shared == "noun",
        ["yes/no?", "true/false"],
    ),
    *[
        rule
        for language in lexicon.LANGUAGES
        for rule in (
            *rules(
                "Translation",
                phrase,
                {f"Translate to {language}. | in {language}?": lambda p, to=language: p.foreign(to)},
                forms.english,
            ),
            *rules(
                "Translation",
                phrase,
                {f"Translate from {language}.": forms.english},
                lambda p, of=language: p.foreign(of),
            ),
        )
    ],
    *rules(
        "Language Identification",
        lambda draw: (phrase(draw), pick(draw, lexicon.LANGUAGES)),
        {"Name the language. | language?": forms.second},
        lambda c: c[0].foreign(c[1]),
    ),
    *rules(
        "Program Execution",
        forms.word_list,
        {
            "Give the first word. | first?": lambda w: w[0],
            "Give the last word. | last?": lambda w: w[-1],
            "Turn the words around. | backwards?": lambda w: " ".join(w[::-1]),
            "Leave out the first word.": lambda w: " ".join(w[1:]),
            "Say the first word twice. | twice?": lambda w: f"{w[0]} {w[0]}",
            "Give the first and the last word.": lambda w: f"{w[0]} {w[-1]}",
            "Count the words. | how many?": lambda w: lexicon.DIGITS[len(w)],
        },
        " ".join,
    ),
    *rules(
        "Number Conversion",
        forms.digits,
        {
            "Write the digits.": forms.written,
            "Write the digits backwards. | backwards?": lambda d: forms.written(d[::-1]),
        },
        forms.spelt,
    ),
    *rules("Number Conversion", forms.digits, {"Write the words.": forms.spelt}, forms.written),
    *rules("Grammar Error Correction", forms.wrong, {"Correct the sentence. | correct?": forms.right}, forms.mistaken),
    *choices(
        "Grammar Error Detection",
        forms.wrong,
        "the verb is wrong",
        lambda c: bool(c[1]),
        ["verb/article?", "yes/no", "true/false"],
        forms.mistaken,
    ),
    *rules(
        "Intent Identification",
        talk,
        {
            "What is the thing they speak of? | thing?": lambda d: d.noun,
            "Say who spoke and what for.": lambda d: f"{d.speakers[1]}: {d.act}",
        },
    ),
    *choices(
        "Intent Identification",
        talk,
        "the last turn wants something",
        lambda d: d.act in ("request", "question"),
        ["yes/no?", "true/false"],
    ),
    *choices(
        "Intent Identification",
        talk,
        "the last turn is kind",
        lambda d: d.act in ("greeting", "thanks", "offer"),
        ["kind/plain?"],
    ),
    *rules(
        "Speaker Identification",
        talk,
        {
            "Who spoke first? | first person?": lambda d: d.speakers[0],
            "Who spoke last? | last person?": lambda d: d.speakers[1],
        },
    ),
    *rules(
        "Word Semantics",
        forms.opposite,
        {"Say the opposite. | opposite?": forms.second, "Say both.": lambda c: f"{c[0]} {c[1]}"},
        forms.first,
    ),
    *rules(
        "Word Semantics",
        forms.noun,
        {
            "What kind of thing is it? | kind?": lambda n: lexicon.KIND[n],
            "Explain the word.": lambda n: (
                f"{capital(article(n))} {n} is {article(lexicon.KIND[n])} {lexicon.KIND[n]}."
            ),
        },
        str,
    ),
]
