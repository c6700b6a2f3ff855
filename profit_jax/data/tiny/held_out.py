"""The task types of validation and test clients, in the paper's split of types, and one that the paper leaves out."""

from profit_jax.data.tiny import forms, lexicon
from profit_jax.data.tiny.rules import choices, rules
from profit_jax.data.tiny.world import article, capital, pair, review, scene, talk

VALIDATION = [
    *choices(
        "Answer Verification",
        forms.verified,
        "the answer is right",
        forms.second,
        ["yes/no?", "right/wrong"],
        forms.first,
    ),
    *rules(
        "Answer Verification",
        forms.verified,
        {
            "Put the answer right. | in a sentence": lambda c: forms.asked_sentence(c[2]),
            "Ask once more. | ask again": lambda c: c[2][0].asked.question(c[2][1]),
            "Put the answer right, in a word or two.": lambda c: forms.asked_answer(c[2]),
        },
        forms.first,
    ),
    *rules(
        "Information Extraction",
        scene,
        {
            "Name the thing, then the place. | thing, place?": lambda s: f"{s.noun}, {s.place}",
            "Name the person, then the deed. | person, verb?": lambda s: f"{s.name}, {s.past}",
            "Name place and time.": lambda s: f"{s.place} {s.time}",
            "Name time and feeling. | time, feeling?": lambda s: f"{s.time}, {s.feeling}",
        },
    ),
    *rules(
        "Dialogue Generation",
        talk,
        {
            "Reply to it.": lambda d: d.reply,
            "Reply, and say who you are. | and then?": lambda d: f"{d.speakers[0]}: {d.reply}",
            "Say who speaks next. | first person?": lambda d: d.speakers[0],
            "Ask for the thing. | thing?": lambda d: f"The {d.noun}?",
        },
    ),
    *choices(
        "Commonsense Classification",
        forms.mad,
        "it makes sense",
        forms.second,
        ["yes/no?", "sense/nonsense"],
        forms.first,
    ),
    *rules(
        "Commonsense Classification",
        forms.mad,
        {
            "What sort of thing was eaten? | kind?": lambda c: lexicon.KIND[c[2]],
            "What was eaten, and where? | thing, place?": lambda c: f"{c[2]}, {c[3]}",
        },
        forms.first,
    ),
    *choices(
        "Word Relation Classification",
        forms.two_nouns,
        "they are of one kind",
        lambda c: lexicon.KIND[c[0]] == lexicon.KIND[c[1]],
        ["same/different?", "true/false"],
        lambda c: f"{c[0]} {c[1]}",
    ),
    *rules(
        "Word Relation Classification",
        forms.two_nouns,
        {
            "Name both kinds. | kinds?": lambda c: f"{lexicon.KIND[c[0]]} {lexicon.KIND[c[1]]}",
            "Say the second word first. | backwards?": lambda c: f"{c[1]} {c[0]}",
        },
        lambda c: f"{c[0]} {c[1]}",
    ),
    *choices(
        "Answerability Classification",
        forms.answerable,
        "there is an answer",
        forms.second,
        ["yes/no?", "known/unknown"],
        forms.first,
    ),
    *rules(
        "Answerability Classification",
        forms.answerable,
        {
            "Ask what can be answered. | ask where": lambda c: c[2].question("where"),
            "Ask for the time instead. | ask when": lambda c: c[2].question("when"),
        },
        forms.first,
    ),
    *rules(
        "Sentence Ordering",
        forms.steps,
        {
            "Give the order of the steps.": lambda c: " ".join(map(str, c[1])),
            "Say the step that is told first. | first, short?": lambda c: c[2][0],
            "Say the step that is told last. | last, short?": lambda c: c[2][2],
            "Name person and place. | person, place?": lambda c: f"{c[3].name} {c[3].place}",
        },
        forms.first,
    ),
]

TEST = [
    *choices(
        "Irony Detection",
        review,
        "the day is not what it is called",
        lambda r: r.positive != r.called,
        ["yes/no?", "ironic/sincere", "false/true?", "irony/praise"],
        forms.remark,
    ),
    *rules("Text Completion", forms.broken_off("noun"), {"Finish it from the thing on.": forms.second}, forms.first),
    *rules("Text Completion", forms.broken_off("place"), {"Finish it from the place on.": forms.second}, forms.first),
    *rules("Text Completion", forms.broken_off("colour"), {"Finish it from the colour on.": forms.second}, forms.first),
    *rules("Text Completion", forms.broken_off("past"), {"Finish it from the deed on.": forms.second}, forms.first),
    *rules(
        "Explanation",
        scene,
        {
            "Say why. | the reason?": lambda s: f"Because {s.reason}.",
            "Explain the deed.": lambda s: f"{capital(s.she)} {s.past} the {s.noun} because {s.reason}.",
            "Explain the feeling. | and then?": lambda s: f"{capital(s.she)} was {s.feeling} because {s.reason}.",
            "Say what it was about.": lambda s: f"It was about {article(s.noun)} {s.noun}, {article(s.kind)} {s.kind}.",
        },
    ),
    *rules(
        "Overlap Extraction",
        lambda draw: pair(draw, "noun"),
        {
            "Which thing is in both? | thing?": lambda p: p.first.noun,
            "Name it with the article.": lambda p: f"the {p.first.noun}",
        },
    ),
    *rules("Overlap Extraction", lambda draw: pair(draw, "place"), {"Where is it? | place?": lambda p: p.first.place}),
    *rules("Overlap Extraction", lambda draw: pair(draw, "name"), {"Who is in both?": lambda p: p.first.name}),
    *rules(
        "Question Generation",
        scene,
        {
            "Ask for the place. | ask where": lambda s: s.question("where"),
            "Ask for the time. | ask when": lambda s: s.question("when"),
            "Ask for the person.": lambda s: s.question("who"),
            "Ask for the colour.": lambda s: s.question("colour"),
        },
    ),
    *rules(
        "Dialogue Act Recognition",
        talk,
        {
            "Name the act of the last turn.": lambda d: d.act,
            "Name the act of the first turn.": lambda d: d.acts[0],
            "Name the last person and the act. | last person?": lambda d: f"{d.speakers[1]} {d.act}",
        },
    ),
    *choices(
        "Dialogue Act Recognition",
        talk,
        "the last turn asks",
        lambda d: d.act in ("question", "request", "offer"),
        ["asking/telling?"],
    ),
    *choices(
        "Gender Classification",
        scene,
        "the person is female",
        lambda s: s.female,
        ["female/male?", "she/he?", "girl/boy", "woman/man"],
    ),
]

EXCLUDED = [
    *rules(
        "Mathematics",
        forms.two_numbers,
        {"Add the numbers. | sum?": lambda c: str(sum(c)), "Name the larger number.": lambda c: str(max(c))},
        lambda c: f"{c[0]}, {c[1]}",
    ),
]
