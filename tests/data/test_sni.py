import json
import math
from pathlib import Path
from typing import Any

import pytest

from profit_jax.data import sni
from profit_jax.data.corpus import Corpus, fingerprint
from profit_jax.errors import InputError


def task(**changes: Any) -> dict[str, Any]:
    """A task file's content, with fields changed, or dropped where the change is `...`."""
    example = {"input": "1 + 1", "output": "2", "explanation": "one and one"}
    fields: dict[str, Any] = {
        "Contributors": ["Ada"],
        "Source": ["sums", "books"],
        "URL": ["https://example.org"],
        "Categories": ["Addition"],
        "Reasoning": [],
        "Definition": ["Add.", "Add the numbers."],
        "Input_language": ["English"],
        "Output_language": ["French"],
        "Instruction_language": ["German"],
        "Domains": ["Numbers"],
        "Positive Examples": [example, example],
        "Negative Examples": [{**example, "output": "3"}],
        "Instances": [
            {"id": "t-0", "input": "2 + 2", "output": ["4", "four"]},
            {"id": "t-1", "input": "2 + 3 é", "output": ["5"]},
        ],
        "Instance License": ["MIT"],
    }
    return {key: value for key, value in {**fields, **changes}.items() if value is not ...}


def write(path: Path, fields: Any) -> Path:
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def test_every_field_is_kept(tmp_path: Path) -> None:
    read = sni.read_task(write(tmp_path / "task1_add.json", task()))
    assert read == sni.Task(
        name="task1_add",
        contributors=("Ada",),
        source=("sums", "books"),
        url=("https://example.org",),
        categories=("Addition",),
        reasoning=(),
        definition=("Add.", "Add the numbers."),
        input_language=("English",),
        output_language=("French",),
        instruction_language=("German",),
        domains=("Numbers",),
        instance_license=("MIT",),
        positive_examples=(sni.Demonstration("1 + 1", "2", "one and one"),) * 2,
        negative_examples=(sni.Demonstration("1 + 1", "3", "one and one"),),
        instances=(sni.Instance("t-0", "2 + 2", ("4", "four")), sni.Instance("t-1", "2 + 3 é", ("5",))),
        dropped=(),
    )
    assert read.task_type == "Addition"


def test_a_description_reads_back_as_the_task_without_instances(tmp_path: Path) -> None:
    fields = task()
    read = sni.read_task(write(tmp_path / "a.json", fields))
    stored = json.loads(json.dumps(read.description()))
    assert stored == {**fields, "Instances": []}
    assert sni.descriptions({"a": stored}, "here") == {"a": sni.parse_task("a", {**fields, "Instances": []}, "here")}


def test_an_absent_url_is_left_out(tmp_path: Path) -> None:
    assert sni.read_task(write(tmp_path / "a.json", task(URL=[math.nan]))).url == ()


def test_instances_without_an_answer_are_dropped_and_blank_answers_left_out(tmp_path: Path) -> None:
    outputs = [["yes"], [""], [], [" \n"], ["", "no"]]
    instances = [{"id": str(i), "input": "?", "output": output} for i, output in enumerate(outputs)]
    read = sni.read_task(write(tmp_path / "a.json", task(Instances=instances)))
    assert [(instance.id, instance.output) for instance in read.instances] == [("0", ("yes",)), ("4", ("no",))]
    assert read.dropped == ("1", "2", "3")


ANSWER = {"id": "t-0", "input": "?", "output": ["!"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (task(Domains=...), ["'Domains' is missing"]),
        (task(Instances=...), ["'Instances' is missing"]),
        (task(Source="sums"), ["'Source'", "expected a list", "str 'sums'"]),
        (task(Reasoning=None), ["'Reasoning'", "found nothing"]),
        (task(Domains=["Numbers", 3]), ["'Domains[1]'", "int '3'"]),
        (task(Domains=[math.nan]), ["'Domains[0]'"]),
        (task(Categories=[]), ["'Categories' is empty"]),
        (task(Definition=[]), ["'Definition' is empty"]),
        (task(**{"Positive Examples": [{"input": "1", "output": "2"}]}), ["'Positive Examples[0].explanation'"]),
        (task(**{"Negative Examples": ["1"]}), ["'Negative Examples[0].input'", "no object"]),
        (task(Instances=[ANSWER, "text"]), ["'Instances[1].id'", "no object"]),
        (task(Instances=[{"input": "?", "output": ["!"]}]), ["'Instances[0].id'", "found nothing"]),
        (task(Instances=[{**ANSWER, "input": 5}]), ["'Instances[0].input'", "int '5'"]),
        (task(Instances=[{**ANSWER, "output": "!"}]), ["'Instances[0].output'", "list of texts"]),
        (task(Instances=[{**ANSWER, "output": ["!", 2]}]), ["'Instances[0].output[1]'"]),
        (task(Instances=[ANSWER, ANSWER]), ["'Instances[1].id'", "'t-0'"]),
        (["no", "object"], ["expected a JSON object", "list"]),
    ],
)
def test_a_bad_field_is_one_line_that_names_file_and_field(tmp_path: Path, fields: Any, words: list[str]) -> None:
    path = write(tmp_path / "task9_bad.json", fields)
    with pytest.raises(InputError) as caught:
        sni.read_task(path)
    message = str(caught.value)
    assert all(word in message for word in [str(path), *words]), message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}", b"{'a': 1}"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "task9_bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"task9_bad\.json: not (JSON|UTF-8 text)") as caught:
        sni.read_task(path)
    assert "\n" not in str(caught.value)


def test_task_files_are_found_in_the_folder_or_its_parent(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    with pytest.raises(InputError, match="no such folder"):
        sni.task_files(tasks)
    with pytest.raises(InputError, match="no task files"):
        sni.task_files(tmp_path)
    tasks.mkdir()
    with pytest.raises(InputError, match="no task files"):
        sni.task_files(tmp_path)
    names = [write(tasks / name, task()) for name in ("b.json", "a.json")]
    (tasks / "README.md").touch()
    assert sni.task_files(tmp_path) == sni.task_files(str(tasks)) == sorted(names)


def test_a_corpus_holds_the_usable_instances_in_file_order(tmp_path: Path) -> None:
    other = [{"id": "u-0", "input": "", "output": ["?", "ja"]}, {"id": "u-1", "input": "x", "output": [""]}]
    files = [
        write(tmp_path / "a.json", task()),
        write(tmp_path / "b.json", task(Instances=other, Categories=["A type"])),
    ]
    corpus = Corpus(files, tmp_path)
    assert [corpus[i] for i in range(len(corpus))] == [
        ("t-0", "2 + 2", ("4", "four"), "a", "Addition"),
        ("t-1", "2 + 3 é", ("5",), "a", "Addition"),
        ("u-0", "", ("?", "ja"), "b", "A type"),
    ]
    assert corpus.task.tolist() == [0, 0, 1]
    assert (corpus.types, corpus.type.tolist()) == (("A type", "Addition"), [1, 1, 0])
    assert (corpus.dropped, corpus.first_dropped) == (1, "b.json")
    assert [found.instances for found in corpus.tasks] == [(), ()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_an_id_in_two_files_is_an_error_that_names_both(tmp_path: Path) -> None:
    files = [write(tmp_path / name, task()) for name in ("a.json", "b.json")]
    with pytest.raises(InputError, match=r"b\.json: instance id 't-\d' is in a\.json too"):
        Corpus(files, tmp_path)


def test_half_a_character_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(task(Instances=[{**ANSWER, "input": "\ud800"}])))
    with pytest.raises(InputError, match=r"a\.json: not JSON: text that is not Unicode"):
        Corpus([path], tmp_path)


def test_a_fingerprint_changes_with_names_and_content(tmp_path: Path) -> None:
    one = write(tmp_path / "a.json", task())
    prints = {fingerprint([one])}
    prints.add(fingerprint([write(tmp_path / "b.json", task())]))
    prints.add(fingerprint([write(tmp_path / "a.json", task(Domains=["Letters"]))]))
    assert len(prints) == 3
    assert fingerprint([write(one, task())]) in prints


@pytest.mark.real_data
def test_the_published_files_read_whole(real_data: Path) -> None:
    files = sni.task_files(real_data / "data" / "natural-instructions")
    tasks = [sni.read_task(path) for path in files]
    assert len(tasks) == 164
    assert len({task.task_type for task in tasks}) == 76
    assert sum(len(task.instances) for task in tasks) == 24_457
    assert [task.name for task in tasks if task.dropped] == ["task1726_mathqa_correct_answer_generation"]
    for path, read in zip(files, tasks):
        published = json.loads(path.read_bytes())
        kept = {**published, "Instances": [], "URL": [url for url in published["URL"] if isinstance(url, str)]}
        assert read.description() == kept
