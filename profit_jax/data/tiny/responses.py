"""The embedded instruction set, with Dolly's columns and its eight categories.

Instruction and context do not tell the category: rows of all categories ask the same few things of the same stories.
What a client wants is in its responses alone, so clients of different categories disagree, from the first word on.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from profit_jax.data.tiny import lexicon, world
from profit_jax.data.tiny.forms import Draw
from profit_jax.data.tiny.world import article, pick, sample
from profit_jax.rng import generator

REQUESTS = ("What do you make of it?", "Read this.", "Here is a story.", "What can you say about it?")


def _listed(story: world.Story, draw: Draw) -> str:
    others = [noun for noun in lexicon.KINDS[story.first.kind] if noun != story.first.noun]
    return ", ".join(sample(draw, others, 2))


# How a response follows from the story, by category. It is short: most of it is to know which one is wanted.
CATEGORIES: dict[str, Callable[[world.Story, Draw], str]] = {
    "open_qa": lambda t, _: f"{article(t.first.kind)} {t.first.kind}",
    "closed_qa": lambda t, _: t.first.place,
    "general_qa": lambda t, _: t.first.question("where"),
    "classification": lambda t, _: f"{t.first.kind} and {t.second.kind}",
    "information_extraction": lambda t, _: f"{t.first.noun}; {t.second.noun}",
    "brainstorming": _listed,
    "summarization": lambda t, _: t.first.short,
    "creative_writing": lambda t, _: f"Then {t.second.she} was {t.second.feeling}.",
}


def row(draw: Draw, category: str) -> dict[str, str]:
    """Draws a row of a category."""
    story = world.story(draw)
    return {
        "instruction": pick(draw, REQUESTS),
        "context": story.text,
        "response": CATEGORIES[category](story, draw),
        "category": category,
    }


def instructions(seed: int = 0, rows: int = 4000) -> list[dict[str, str]]:
    """So many rows, the categories in turn."""
    kinds = list(CATEGORIES)
    return [row(generator(seed, "tiny instructions", i), kinds[i % len(kinds)]) for i in range(rows)]


def write_instructions(file: str | os.PathLike[str], seed: int = 0, rows: int = 4000) -> Path:
    """Writes `instructions` as JSON lines."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(made) + "\n" for made in instructions(seed, rows)]
    path.write_text("".join(lines), encoding="utf-8")
    return path
