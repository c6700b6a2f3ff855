import collections
import itertools
import json
from pathlib import Path

import pytest

from profit_jax.data import instructions, sni, tiny
from profit_jax.data.splits import split_types
from profit_jax.data.tiny import corpus, held_out, responses, training
from profit_jax.data.tiny.rules import Rule
from profit_jax.rng import generator


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sni.task_files(folder)}


def test_the_corpus_reads_as_published_task_files(tmp_path: Path) -> None:
    tasks = [sni.read_task(path) for path in sni.task_files(tiny.write(tmp_path, instances=7))]
    assert len(tasks) == len(corpus.RULES) >= 100
    assert [(len(task.instances), task.dropped) for task in tasks] == [(7, ())] * len(tasks)
    assert {task.task_type for task in tasks} == set(tiny.TYPES) and len(tiny.TYPES) >= 30
    for task in tasks:
        assert len(task.positive_examples) == 2 and len(task.negative_examples) == 1
        assert all(getattr(task, field) for field in ("contributors", "source", "reasoning", "definition", "domains"))
        assert task.input_language and task.output_language and task.instruction_language == ("English",)


def test_rules_stand_in_the_split_of_their_type() -> None:
    split = split_types(tiny.TYPES)
    for name, rules in (("train", training.TRAIN), ("validation", held_out.VALIDATION), ("test", held_out.TEST)):
        assert {rule.type for rule in rules} == set(getattr(split, name))
    assert [len(split.validation), len(split.test), len(split.excluded)] == [7, 7, 1]


def test_a_seed_gives_one_corpus(tmp_path: Path) -> None:
    one, again, other = (tmp_path / name for name in ("one", "again", "other"))
    for folder, seed in ((one, 1), (again, 1), (other, 2)):
        tiny.write(folder, seed, instances=5)
    assert content(one) == content(again) != content(other)


@pytest.mark.parametrize("rule", corpus.RULES, ids=lambda rule: f"{rule.type}: {rule.define()}")
def test_a_rule_answers_every_query_and_not_all_alike(rule: Rule) -> None:
    drawn = [rule.instance(generator(0, "rule", i)) for i in range(60)]
    assert all(query.strip() and answer.strip() and "{" not in query + answer for query, answer in drawn)
    answers = collections.Counter(answer for _, answer in drawn)
    assert max(answers.values()) < 50, "one answer would do"
    if rule.labels:
        assert set(answers) == set(rule.labels)


def test_tasks_of_a_type_are_alike_but_not_equal() -> None:
    definitions = [(rule.type, rule.define()) for rule in corpus.RULES]
    assert len(set(definitions)) == len(definitions)


def test_pretraining_never_shows_a_held_out_type_and_a_query_by_itself_is_followed_by_other_text() -> None:
    held = {rule.type for rule in (*held_out.VALIDATION, *held_out.TEST, *held_out.EXCLUDED)}
    headings = {rule.define() for rule in training.TRAIN} | {f"{rule.type}." for rule in training.TRAIN}
    bare = 0
    for context, answer in itertools.islice(tiny.documents(3), 2000):
        assert answer.strip()
        heading = context.split("\n")[0]
        assert not any(heading == f"{name}." for name in held)
        known = heading in headings or heading.startswith(("Definition: ", "Positive Example", "Below is an", "Say "))
        if context and not known and heading != "Do the task.":
            bare += 1
            assert len(answer.split()) >= 3 and answer.endswith("."), "text: a sentence or more"
    assert 0.06 < bare / 2000 < 0.1


def test_requests_that_leave_the_answer_open_are_answered_in_every_way_and_not_with_the_sets_own_rows() -> None:
    documents = [*itertools.islice(tiny.documents(3), 4000)]
    open_ones = [each for each in documents if any(request in each[0] for request in responses.REQUESTS)]
    assert 0.05 < len(open_ones) / len(documents) < 0.09
    starts = ("Where did", "Then she was", "a food", "an animal")
    assert all(any(answer.startswith(start) for _, answer in open_ones) for start in starts)
    own = {(f"{example.query}\n", *example.targets) for example in instructions.load("tiny").examples}
    assert own.isdisjoint(open_ones)


def test_documents_are_a_function_of_the_seed() -> None:
    one, again, other = ([*itertools.islice(tiny.documents(seed), 20)] for seed in (1, 1, 2))
    assert one == again != other


def test_instructions_read_as_dolly_with_its_eight_categories(tmp_path: Path) -> None:
    file = tiny.write_instructions(tmp_path / "dolly.jsonl", rows=80)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {tuple(row) for row in rows} == {("instruction", "context", "response", "category")}
    examples = instructions.load(f"dolly:{file}").examples
    assert collections.Counter(example.task_type for example in examples) == dict.fromkeys(tiny.CATEGORIES, 10)
    assert len(tiny.CATEGORIES) == 8
