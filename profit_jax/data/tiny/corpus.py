"""The embedded corpus as files, in the exact format of Super-NaturalInstructions."""

import json
import os
from pathlib import Path

from profit_jax.data.tiny import lexicon
from profit_jax.data.tiny.forms import Draw
from profit_jax.data.tiny.held_out import EXCLUDED, TEST, VALIDATION
from profit_jax.data.tiny.rules import Rule
from profit_jax.data.tiny.training import TRAIN
from profit_jax.rng import generator

RULES = (*TRAIN, *VALIDATION, *TEST, *EXCLUDED)
TYPES = tuple(dict.fromkeys(rule.type for rule in RULES))

# task type -> source, domain, reasoning; the others are about scenes.
_SCENES = ("scenes", "Story", "Commonsense Reasoning")
_ORIGINS = {
    "Question Answering": ("stories", "Story", "Textual Entailment"),
    "Question Rewriting": ("stories", "Story", "Textual Entailment"),
    "Textual Entailment": ("stories", "Story", "Textual Entailment"),
    "Answer Verification": ("stories", "Story", "Textual Entailment"),
    "Answerability Classification": ("stories", "Story", "Textual Entailment"),
    "Sentence Ordering": ("stories", "Story", "Temporal Reasoning"),
    "Sentiment Analysis": ("reviews", "Reviews", "Reasoning on Social Interactions"),
    "Text Matching": ("reviews", "Reviews", "Reasoning on Social Interactions"),
    "Irony Detection": ("reviews", "Reviews", "Reasoning on Social Interactions"),
    "Intent Identification": ("talks", "Dialogue", "Reasoning on Social Interactions"),
    "Speaker Identification": ("talks", "Dialogue", "Reasoning on Social Interactions"),
    "Dialogue Generation": ("talks", "Dialogue", "Reasoning on Social Interactions"),
    "Dialogue Act Recognition": ("talks", "Dialogue", "Reasoning on Social Interactions"),
    "Translation": ("languages", "Dictionary", "Grammatical Reasoning"),
    "Language Identification": ("languages", "Dictionary", "Grammatical Reasoning"),
    "Word Semantics": ("words", "Dictionary", "Relational Reasoning"),
    "Word Relation Classification": ("words", "Dictionary", "Relational Reasoning"),
    "Program Execution": ("words", "Code", "Logical Reasoning"),
    "Number Conversion": ("numbers", "Mathematics", "Numerical Reasoning"),
    "Mathematics": ("numbers", "Mathematics", "Numerical Reasoning"),
}


def write(folder: str | os.PathLike[str], seed: int = 0, instances: int = 400) -> Path:
    """Writes `<folder>/tasks/*.json`, a file a task with so many instances; returns `<folder>/tasks`."""
    tasks = Path(folder) / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    written = dict.fromkeys(TYPES, 0)
    for number, rule in enumerate(RULES, 1):
        written[rule.type] += 1
        name = f"task{number:03d}_tiny_{'_'.join(rule.type.lower().split())}_{written[rule.type]}"
        task = _task(rule, number, generator(seed, "tiny", number), instances)
        (tasks / f"{name}.json").write_text(json.dumps(task, indent=1), encoding="utf-8")
    return tasks


def _task(rule: Rule, number: int, draw: Draw, instances: int) -> dict[str, object]:
    source, domain, reasoning = _ORIGINS.get(rule.type, _SCENES)
    spoken = [language for language in lexicon.LANGUAGES if language in rule.definition]
    foreign = spoken[0] if spoken else "English"
    into = rule.definition.startswith("Translate to")
    examples = [dict(zip(("input", "output"), rule.instance(draw))) for _ in range(3)]
    shown = [{**example, "explanation": rule.define()} for example in examples]
    return {
        "Contributors": ["profit_jax"],
        "Source": [source],
        "URL": [],
        "Categories": [rule.type],
        "Reasoning": [reasoning],
        "Definition": [rule.define()],
        "Input_language": ["English" if into else foreign],
        "Output_language": [foreign if into else "English"],
        "Instruction_language": ["English"],
        "Domains": [domain],
        "Positive Examples": shown[:2],
        "Negative Examples": [{**shown[2], "output": "maybe"}],
        "Instances": [
            {"id": f"task{number:03d}-{i:05d}", "input": query, "output": [answer]}
            for i, (query, answer) in enumerate(rule.instance(draw) for _ in range(instances))
        ],
        "Instance License": ["Apache 2.0"],
    }
