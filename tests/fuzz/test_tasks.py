"""Task files of Super-NaturalInstructions, and what is prepared from a folder with a bad one."""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.data import sni
from profit_jax.data.prepare import prepare
from profit_jax.data.splits import TypeSplit, split_types
from profit_jax.data.tasks import Task, read_task, task_files
from profit_jax.errors import InputError
from tests.fuzz import faults, law

TYPES = ("Translation", "Sentence Ordering", "Irony Detection")  # to train, to validate and to test
LISTS = ("Categories", "Definition", "Domains", "Source", "Reasoning", "Input_language", "Instruction_language")


def published(kind: str, instances: int = 4) -> dict[str, Any]:
    """A task file's content."""
    lists = {name: ["x"] for name in (*LISTS, "Contributors", "Output_language", "Instance License")}
    example = {"input": "in", "output": "out", "explanation": "why"}
    return {
        **lists,
        "URL": [math.nan, "http://x"],
        "Categories": [kind],
        "Positive Examples": [example],
        "Negative Examples": [example],
        "Instances": [
            {"id": f"{kind}-{i}", "input": f"é {i}", "output": ["a", " "] if i else [" "]} for i in range(instances)
        ],
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "tasks"
    folder.mkdir()
    for number, kind in enumerate(TYPES):
        (folder / f"task{number}.json").write_text(json.dumps(published(kind)))
    return folder


def says(file: Path, task: Task) -> None:
    """Asserts that a task is what plain `json` reads of its file."""
    fields = json.loads(file.read_bytes().decode("utf-8-sig"))
    assert task.name == file.stem
    for name in LISTS:
        assert [*getattr(task, name.lower())] == fields[name]
    assert [*task.url] == [each for each in fields["URL"] if isinstance(each, str)]
    answers = {each["id"]: [text for text in each["output"] if text.strip()] for each in fields["Instances"]}
    assert {each.id: [*each.output] for each in task.instances} | {id_: [] for id_ in task.dropped} == answers
    assert {each.id: each.input for each in task.instances}.items() <= {
        each["id"]: each["input"] for each in fields["Instances"]
    }.items()


@law.cases
@given(faults.or_no_file(faults.damaged_json(published(TYPES[0]))))
def test_a_task_file(source: Path, fault: bytes | str) -> None:
    file = source / "task0.json"
    with faults.spoilt(file, fault):
        law.holds(lambda: read_task(file), source, [file], lambda task: says(file, task))


@law.cases
@given(faults.or_no_file(faults.damaged_json(published(TYPES[0]))), st.integers(0, 2))
def test_a_bad_task_file_prepares_nothing_and_a_good_one_all_of_it(
    source: Path, fault: bytes | str, number: int
) -> None:
    file, out = source / f"task{number}.json", source / "out"
    names = [
        file,
        "clients of chunk_size 3",
        "no validation clients",
        "no test clients",
        "no train clients",
        "task0.json",
    ]

    def read() -> sni.FederatedSNI:
        prepare(source, out, partitions=["hhf"], chunk_size=3)
        return sni.open(out / "federated_sni" / "hhf")

    def right(opened: sni.FederatedSNI) -> None:
        found = {
            e.id: e
            for clients in (opened.train, opened.validation, opened.test)
            for e in clients.take(range(len_of(clients)))
        }
        tasks = [read_task(path) for path in task_files(source)]
        there = {each.id: (each, task) for task in tasks for each in task.instances if task.task_type in _kinds(opened)}
        assert found.keys() == there.keys()
        for id_, (each, task) in there.items():
            assert found[id_][1:] == (each.input, each.output, task.name, task.task_type)

    try:
        with faults.spoilt(file, fault):
            law.holds(read, source, names, right)
        if not (out / "federated_sni" / "hhf").is_dir():
            with pytest.raises(InputError):
                sni.open(out / "federated_sni" / "hhf")
    finally:
        shutil.rmtree(out, ignore_errors=True)


def len_of(clients: Any) -> int:
    return int(clients.sizes.sum())


def _kinds(opened: sni.FederatedSNI) -> set[str]:
    """The types that clients are cut from."""
    report = opened.report
    kinds = {kind for split in ("train", "validation", "test") for kind in report.task_types[split]}
    return kinds - report.too_small.keys()


def test_a_file_whose_name_is_not_unicode_is_named(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"task\xff.json")).write_text(json.dumps(published(TYPES[0])))
    with pytest.raises(InputError, match=r"task\\udcff\.json': the file's name is not UTF-8"):
        task_files(tmp_path)


@law.cases
@given(st.sets(st.text(st.characters(), max_size=5), max_size=30), st.sampled_from(("paper", "random")), st.integers(0))
def test_a_split_has_every_type_once_whatever_its_name(types: set[str], method: str, seed: int) -> None:
    def right(split: TypeSplit) -> None:
        kinds = [kind for part in split for kind in part]
        assert sorted(kinds) == sorted(types)

    law.holds(lambda: split_types(types, method, seed), Path("/nowhere/at all"), ["split 'random'"], right)
