"""Super-NaturalInstructions as it is published: one JSON file a task.

`read_task` reads one task file whole and checks every field of it.

Reference: Wang et al., Super-NaturalInstructions, EMNLP 2022, https://arxiv.org/abs/2204.07705.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from profit_jax.errors import InputError
from profit_jax.files import is_unicode, read_json

_LISTS = {
    "Contributors": "contributors",
    "Source": "source",
    "URL": "url",
    "Categories": "categories",
    "Reasoning": "reasoning",
    "Definition": "definition",
    "Input_language": "input_language",
    "Output_language": "output_language",
    "Instruction_language": "instruction_language",
    "Domains": "domains",
    "Instance License": "instance_license",
}
_DEMONSTRATIONS = {"Positive Examples": "positive_examples", "Negative Examples": "negative_examples"}
_NEVER_EMPTY = ("Categories", "Definition")


class Instance(NamedTuple):
    """A (query, targets) pair; `output` holds the accepted answers that are not blank."""

    id: str
    input: str
    output: tuple[str, ...]


class Demonstration(NamedTuple):
    """A positive or negative example of a task's description."""

    input: str
    output: str
    explanation: str


@dataclass(frozen=True)
class Task:
    """A task file, field by field; the names are the published ones in lower case.

    `name` is the file's name without `.json`. `instances` leaves out the instances without any answer that is not
    blank, and `dropped` holds their ids. An absent URL, published as NaN, is left out of `url`.
    """

    name: str
    contributors: tuple[str, ...]
    source: tuple[str, ...]
    url: tuple[str, ...]
    categories: tuple[str, ...]
    reasoning: tuple[str, ...]
    definition: tuple[str, ...]
    input_language: tuple[str, ...]
    output_language: tuple[str, ...]
    instruction_language: tuple[str, ...]
    domains: tuple[str, ...]
    instance_license: tuple[str, ...]
    positive_examples: tuple[Demonstration, ...]
    negative_examples: tuple[Demonstration, ...]
    instances: tuple[Instance, ...]
    dropped: tuple[str, ...] = ()

    @property
    def task_type(self) -> str:
        """The task's type: its first category."""
        return self.categories[0]

    def description(self) -> dict[str, Any]:
        """Everything but the instances, in the published fields: `parse_task` reads it back."""
        lists = {field: list(getattr(self, name)) for field, name in _LISTS.items()}
        examples = {field: [e._asdict() for e in getattr(self, name)] for field, name in _DEMONSTRATIONS.items()}
        return {**lists, **examples, "Instances": []}


def task_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The task files of a release, by name: `folder` holds them, or holds the folder `tasks` that does.

    Raises:
      InputError: there is no such folder, no `.json` file in it, or one whose name is not Unicode.
    """
    folder = Path(folder)
    tasks = folder / "tasks" if os.path.isdir(folder / "tasks") else folder
    if not os.path.isdir(tasks):  # which a name that is too long is not
        raise InputError(f"{folder}: no such folder; give the folder that holds the task files, or its parent")
    if not (files := sorted(tasks.glob("*.json"))):
        raise InputError(f"{tasks}: no task files (*.json) here; give the folder that holds them, or its parent")
    if unnamed := [file for file in files if not is_unicode(file.name)]:  # the name becomes the task's
        raise InputError(f"{str(unnamed[0])!r}: the file's name is not UTF-8; rename it")
    return files


def read_task(path: str | os.PathLike[str]) -> Task:
    """Reads one task file.

    Raises:
      InputError: the file is not UTF-8 JSON, lacks a field, has a field of another type, or an instance id twice.
    """
    return parse_task(Path(path).stem, read_json(path), str(path))


def parse_task(name: str, fields: Any, where: str) -> Task:
    """Checks a task file's content; `where` names it in errors."""
    if not isinstance(fields, dict):
        raise InputError(f"{where}: expected a JSON object with a task's fields, found {_kind(fields)}")
    for field in (*_LISTS, *_DEMONSTRATIONS, "Instances"):
        if field not in fields:
            raise InputError(f"{where}: field {field!r} is missing")
        if not isinstance(fields[field], list):
            raise InputError(f"{where}: field {field!r}: expected a list, found {_kind(fields[field])}")
    for field in _NEVER_EMPTY:
        if not fields[field]:
            raise InputError(f"{where}: field {field!r} is empty")
    lists: dict[str, Any] = {key: _texts(fields[field], field, where) for field, key in _LISTS.items()}
    examples: dict[str, Any] = {
        key: tuple(
            Demonstration(*(_text(example, part, f"{field}[{i}]", where) for part in Demonstration._fields))
            for i, example in enumerate(fields[field])
        )
        for field, key in _DEMONSTRATIONS.items()
    }
    instances = _instances(fields["Instances"], where)
    usable = tuple(instance for instance in instances if instance.output)
    dropped = tuple(instance.id for instance in instances if not instance.output)
    return Task(name, **lists, **examples, instances=usable, dropped=dropped)


def _instances(values: list[Any], where: str) -> list[Instance]:
    instances, seen = [], set()
    for i, value in enumerate(values):
        item = f"Instances[{i}]"
        id_, query = _text(value, "id", item, where), _text(value, "input", item, where)
        output = value.get("output")
        if not isinstance(output, list):
            raise InputError(f"{where}: field '{item}.output': expected a list of texts, found {_kind(output)}")
        if id_ in seen:
            raise InputError(f"{where}: field '{item}.id': {id_!r} is the id of an earlier instance too")
        seen.add(id_)
        answers = _texts(output, f"{item}.output", where)
        instances.append(Instance(id_, query, tuple(answer for answer in answers if answer.strip())))
    return instances


def _text(value: Any, key: str, item: str, where: str) -> str:
    if not isinstance(value, dict) or not isinstance(value.get(key), str):
        found = _kind(value.get(key)) if isinstance(value, dict) else f"no object but {_kind(value)}"
        raise InputError(f"{where}: field '{item}.{key}': expected text, found {found}")
    return value[key]


def _texts(values: list[Any], field: str, where: str) -> tuple[str, ...]:
    if field == "URL":  # 99 files of the release have NaN here
        values = [value for value in values if not (isinstance(value, float) and math.isnan(value))]
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise InputError(f"{where}: field '{field}[{i}]': expected text, found {_kind(value)}")
    return tuple(values)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def descriptions(stored: Mapping[str, Any], where: str) -> dict[str, Task]:
    """The tasks, without instances, of a store's JSON: name -> task."""
    return {name: parse_task(name, fields, where) for name, fields in stored.items()}
