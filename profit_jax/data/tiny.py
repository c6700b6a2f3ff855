"""A small made-up corpus in the exact format of the release: 13 task types, 26 tasks, text from word lists.

It stands in for Super-NaturalInstructions where there is no download: three of its types are test types of the paper,
three are validation types, one is excluded, six are left to train on.
"""

import json
import os
from pathlib import Path

import numpy as np

from profit_jax.rng import generator

NOUNS = ["cat", "dog", "bird", "fish", "boy", "girl", "king", "queen", "fox", "bear", "tree", "boat", "ball", "book"]
NAMES = {"Lily": "she", "Anna": "she", "Mia": "she", "Tom": "he", "Ben": "he", "Max": "he"}
VERBS = {"see": "saw", "find": "found", "take": "took", "make": "made", "hold": "held", "hide": "hid"}
COLOURS = ["red", "blue", "green", "black", "white", "yellow"]
PLACES = ["park", "garden", "forest", "kitchen", "school", "river"]
KINDS = {"cat": "animal", "dog": "animal", "bird": "animal", "cake": "food", "apple": "food", "bread": "food"}
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FRENCH = {"cat": "chat", "dog": "chien", "bird": "oiseau", "fish": "poisson", "house": "maison", "book": "livre"}

# task type -> source, domain, reasoning, the definitions of its two tasks
TYPES = {
    "Text Completion": ("scenes", "Story", ["Commonsense Reasoning"], ("Add one word.", "Add two words.")),
    "Question Generation": ("scenes", "Story", [], ("Ask what was there.", "Ask where it was.")),
    "Gender Classification": ("names", "Story", ["Commonsense Reasoning"], ("Female or male?", "She or he?")),
    "Word Relation Classification": ("words", "Dictionary", [], ("Name the relation.", "Are they of one kind?")),
    "Sentence Ordering": ("scenes", "Story", ["Temporal Reasoning"], ("Give the order.", "What comes first?")),
    "Answerability Classification": ("scenes", "Story", [], ("Can it be answered?", "Is there an answer?")),
    "Question Answering": ("scenes", "Story", ["Textual Entailment"], ("Give the colour.", "Give the place.")),
    "Program Execution": ("words", "Code", ["Logical Reasoning"], ("Give the last word.", "Reverse the words.")),
    "Pos Tagging": ("scenes", "Story", [], ("Find the verb.", "Find the adjective.")),
    "Number Conversion": ("digits", "Numbers", [], ("Write digits.", "Write words.")),
    "Grammar Error Correction": ("scenes", "Story", [], ("Correct the number.", "Correct the tense.")),
    "Translation": ("words", "Dictionary", [], ("Translate to French.", "Translate to English.")),
    "Mathematics": ("digits", "Numbers", ["Numerical Reasoning"], ("Add.", "Subtract.")),
}


def write(folder: str | os.PathLike[str], seed: int = 0, instances: int = 60) -> Path:
    """Writes `<folder>/tasks/*.json`, two files a task type with so many instances each; returns `<folder>/tasks`."""
    tasks = Path(folder) / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    for number in range(1, 2 * len(TYPES) + 1):
        kind = list(TYPES)[(number - 1) // 2]
        name = f"task{number:03d}_{kind.lower().replace(' ', '_')}_{2 - number % 2}"
        task = _task(kind, number, generator(seed, "tiny", number), instances)
        (tasks / f"{name}.json").write_text(json.dumps(task, indent=4), encoding="utf-8")
    return tasks


def write_instructions(file: str | os.PathLike[str], seed: int = 0, rows: int = 60) -> Path:
    """Writes so many rows a task type as JSON lines with Dolly's columns; the task type is the category."""
    lines = []
    for number, (kind, (*_, definitions)) in enumerate(TYPES.items()):
        draw = generator(seed, "tiny instructions", number)
        for row in range(rows):
            query, answer = _pair(kind, draw, second=row % 2 == 1)
            line = {"instruction": definitions[row % 2], "context": query, "response": answer, "category": kind}
            lines.append(json.dumps(line) + "\n")
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _task(kind: str, number: int, draw: np.random.Generator, instances: int) -> dict[str, object]:
    source, domain, reasoning, definitions = TYPES[kind]
    second = number % 2 == 0
    pairs = [_pair(kind, draw, second) for _ in range(instances + 3)]
    languages = ["English", "French" if kind == "Translation" else "English"]
    examples = [{"input": query, "output": answer, "explanation": definitions[second]} for query, answer in pairs[:3]]
    return {
        "Contributors": ["profit_jax"],
        "Source": [source],
        "URL": [],
        "Categories": [kind],
        "Reasoning": reasoning,
        "Definition": [definitions[second]],
        "Input_language": [languages[second]],
        "Output_language": [languages[not second]],
        "Instruction_language": ["English"],
        "Domains": [domain],
        "Positive Examples": examples[:2],
        "Negative Examples": [{**examples[2], "output": "maybe"}],
        "Instances": [
            {"id": f"task{number:03d}-{i:05d}", "input": query, "output": [answer]}
            for i, (query, answer) in enumerate(pairs[3:])
        ],
        "Instance License": ["Apache 2.0"],
    }


def _pair(kind: str, draw: np.random.Generator, second: bool) -> tuple[str, str]:
    """A query and its answer, for the first or the second task of a type."""
    name, verb, colour, noun, place = (str(draw.choice(list(a))) for a in (NAMES, VERBS, COLOURS, NOUNS, PLACES))
    scene = f"{name} {VERBS[verb]} a {colour} {noun} in the {place}."
    words = draw.choice(NOUNS, int(draw.integers(3, 6)), replace=False).tolist()
    match kind:
        case "Text Completion":
            return (
                f"{scene} {name} liked the {'' if second else colour}".strip(),
                f"{colour} {noun}" if second else noun,
            )
        case "Question Generation":
            return (
                scene,
                f"Where did {name} {verb} the {noun}?" if second else f"What did {name} {verb} in the {place}?",
            )
        case "Gender Classification":
            return scene, NAMES[name] if second else {"she": "female", "he": "male"}[NAMES[name]]
        case "Word Relation Classification":
            one, two = draw.choice(list(KINDS), 2, replace=False).tolist()
            answers = ("no", "yes") if second else ("random", "co-hyponym")
            return f"{one}, {two}", answers[KINDS[one] == KINDS[two]]
        case "Sentence Ordering":
            steps = [f"{name} went to the {place}.", f"{name} {VERBS[verb]} a {noun}.", f"{name} went home."]
            order = draw.permutation(3)
            places = [str(at) for at in np.argsort(order) + 1]
            shown = " ".join(f"({i + 1}) {steps[at]}" for i, at in enumerate(order))
            return shown, places[0] if second else " ".join(places)
        case "Answerability Classification":
            known = bool(draw.integers(2))
            answers = ("no", "yes") if second else ("unanswerable", "answerable")
            return f"{scene} {'What' if known else 'Why'} did {name} {verb}?", answers[known]
        case "Question Answering":
            return f"{scene} {'Where' if second else 'What colour'} was it?", f"in the {place}" if second else colour
        case "Program Execution":
            return " ".join(words), " ".join(words[::-1]) if second else words[-1]
        case "Pos Tagging":
            return scene, colour if second else VERBS[verb]
        case "Number Conversion":
            digits = draw.integers(0, 10, int(draw.integers(2, 5))).tolist()
            spelt, written = " ".join(DIGITS[digit] for digit in digits), " ".join(map(str, digits))
            return (written, spelt) if second else (spelt, written)
        case "Grammar Error Correction":
            right = f"Yesterday {scene}" if second else f"The {noun} is in the {place}."
            return right.replace(VERBS[verb], verb) if second else right.replace(" is ", " are "), right
        case "Translation":
            english = draw.choice(list(FRENCH), int(draw.integers(1, 4))).tolist()
            texts = " ".join(english), " ".join(FRENCH[word] for word in english)
            return texts[second], texts[not second]
        case "Mathematics":
            one, two = draw.integers(0, 50, 2).tolist()
            return (f"{one + two} - {two}", str(one)) if second else (f"{one} + {two}", str(one + two))
    raise AssertionError(kind)
