"""The task types of validation and test clients, in the paper's split of types, and one that the paper leaves out."""

from profit_jax.data.tiny import forms, lexicon, world
from profit_jax.data.tiny.rules import YES, choices, rules
from profit_jax.data.tiny.world import article, capital

VALIDATION = [
    *choices(
        "Answer Verification",
        forms.verified,
        "the answer is right",
        lambda c: c[1],
        [*YES, "right/wrong"],
        lambda c: c[0],
    ),
    *rules(
        "Information Extraction",
        world.scene,
        {
            "Name the thing, then the place.": lambda s: f"{s.noun}, {s.place}",
            "Name the person, then the deed.": lambda s: f"{s.name}, {s.past}",
            "Name place and time.": lambda s: f"{s.place} {s.time}",
        },
    ),
    *rules(
        "Dialogue Generation",
        world.talk,
        {
            "Reply to it.": lambda d: d.reply,
            "Reply, and say who you are.": lambda d: f"{d.speakers[0]}: {d.reply}",
            "Repeat what was said.": lambda d: d.turn(1),
        },
    ),
    *choices(
        "Commonsense Classification",
        forms.mad,
        "it makes sense",
        lambda c: c[1],
        [*YES, "sense/nonsense"],
        lambda c: c[0],
    ),
    *choices(
        "Word Relation Classification",
        forms.two,
        "they are of one kind",
        lambda c: lexicon.KIND[c[0]] == lexicon.KIND[c[1]],
        ["same/different", *YES],
        lambda c: f"{c[0]} {c[1]}",
    ),
    *choices(
        "Answerability Classification",
        forms.answerable,
        "there is an answer",
        lambda c: c[1],
        [*YES, "known/unknown"],
        lambda c: c[0],
    ),
    *rules(
        "Sentence Ordering",
        forms.steps,
        {
            "Give the order of the steps.": lambda c: " ".join(c[1]),
            "Which step is the first sentence?": lambda c: c[1][0],
            "Which step is the last sentence?": lambda c: c[1][2],
        },
        lambda c: c[0],
    ),
]

TEST = [
    *choices(
        "Irony Detection",
        world.review,
        "the day is not what it is called",
        lambda r: r.positive != r.called,
        ["yes/no", "ironic/sincere", "false/true", "irony/praise"],
        lambda r: r.remark,
    ),
    *rules("Text Completion", forms.cut("noun"), {"Finish it from the thing on.": lambda c: c[1]}, lambda c: c[0]),
    *rules("Text Completion", forms.cut("place"), {"Finish it from the place on.": lambda c: c[1]}, lambda c: c[0]),
    *rules("Text Completion", forms.cut("colour"), {"Finish it from the colour on.": lambda c: c[1]}, lambda c: c[0]),
    *rules("Text Completion", forms.cut("past"), {"Finish it from the deed on.": lambda c: c[1]}, lambda c: c[0]),
    *rules(
        "Explanation",
        world.scene,
        {
            "Say why.": lambda s: f"Because {s.reason}.",
            "Explain the deed.": lambda s: f"{capital(s.she)} {s.past} the {s.noun} because {s.reason}.",
            "Explain the feeling.": lambda s: f"{s.name} was {s.feeling} because {s.reason}.",
            "Say what it was about.": lambda s: f"It was about {article(s.noun)} {s.noun}, {article(s.kind)} {s.kind}.",
        },
    ),
    *rules(
        "Overlap Extraction",
        lambda d: world.pair(d, "noun"),
        {
            "Which thing is in both?": lambda p: p.first.noun,
            "Name it with the articles.": lambda p: f"the {p.first.noun}",
        },
    ),
    *rules(
        "Overlap Extraction", lambda d: world.pair(d, "place"), {"Which place is in both?": lambda p: p.first.place}
    ),
    *rules("Overlap Extraction", lambda d: world.pair(d, "name"), {"Who is in both?": lambda p: p.first.name}),
    *rules(
        "Question Generation",
        world.scene,
        {
            "Ask for the place.": lambda s: s.question("where"),
            "Ask for the time.": lambda s: s.question("when"),
            "Ask for the person.": lambda s: s.question("who"),
            "Ask for the colour.": lambda s: s.question("colour"),
        },
    ),
    *rules(
        "Dialogue Act Recognition",
        world.talk,
        {
            "Name the act of the last turn.": lambda d: d.act,
            "Name the act of the first turn.": lambda d: d.acts[0],
            "Name both acts.": lambda d: f"{d.acts[0]} {d.acts[1]}",
        },
    ),
    *choices(
        "Dialogue Act Recognition",
        world.talk,
        "the last turn asks",
        lambda d: d.act in ("question", "request", "offer"),
        ["asking/telling"],
    ),
    *choices(
        "Gender Classification",
        world.scene,
        "the person is female",
        lambda s: s.female,
        ["female/male", "she/he", "girl/boy", "woman/man"],
    ),
]

EXCLUDED = [
    *rules(
        "Mathematics",
        lambda d: d.integers(50, size=2).tolist(),
        {"Add the numbers.": lambda c: str(sum(c))},
        lambda c: f"{c[0]} + {c[1]}",
    ),
    *rules(
        "Mathematics",
        lambda d: d.integers(50, size=2).tolist(),
        {"Name the larger number.": lambda c: str(max(c))},
        lambda c: f"{c[0]}, {c[1]}",
    ),
]
