import csv
import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profit_jax.data import tiny
from profit_jax.data.examples import Example
from profit_jax.data.instructions import SETS, load, render
from profit_jax.errors import InputError

ROWS = [
    {"instruction": "Add.", "input": "1 + 1", "output": "2", "category": "sums"},
    {"instruction": "Greet.", "input": "", "output": "Hé\nthere", "category": "talk"},
    {"instruction": "Date?", "input": "NA", "output": "007", "category": "talk"},
]
PLAIN = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
PAIRED = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n"
)


def write(path: Path, rows: Any) -> str:
    """Writes rows in the format of the file's name."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        path.write_text(json.dumps(rows))
    return str(path)


def refused(data: str, **options: Any) -> str:
    """The error's one line."""
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_prompt_is_alpacas_with_and_without_context() -> None:
    assert render("{Do} it.") == PLAIN + "### Instruction:\n{Do} it.\n\n### Response:"
    assert render("Do it.", "a\nb") == PAIRED + "### Instruction:\nDo it.\n\n### Input:\na\nb\n\n### Response:"
    assert render("Do it.", " \n") == render("Do it.")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet", ".csv", ".JSON"])
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    loaded = load(write(tmp_path / f"mine [1]*{suffix}", ROWS))
    assert loaded == (
        (
            Example("mine [1]*-0", render("Add.", "1 + 1"), ("2",), "mine [1]*", "sums"),
            Example("mine [1]*-1", render("Greet."), ("Hé\nthere",), "mine [1]*", "talk"),
            Example("mine [1]*-2", render("Date?", "NA"), ("007",), "mine [1]*", "talk"),
        ),
        0,
        None,
    )


@pytest.mark.parametrize("instruction", ["instruction", "question", "prompt"])
@pytest.mark.parametrize(("output", "context"), [("response", "context"), ("answer", "input"), ("completion", None)])
def test_a_plain_files_columns_go_by_usual_names(
    tmp_path: Path, instruction: str, output: str, context: str | None
) -> None:
    row = {instruction: "Add.", output: "2"} | ({context: "1 + 1"} if context else {})
    (example,) = load(write(tmp_path / "a.json", [row])).examples
    assert example == Example("a-0", render("Add.", "1 + 1" if context else ""), ("2",), "a", "")


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_from_a_file_with_its_own_columns(tmp_path: Path, name: str) -> None:
    columns = SETS[name].columns
    row = {column: f"my {field}" for field, column in columns._asdict().items() if column}
    (example,) = load(f"{name}:{write(tmp_path / 'a.json', [{**row, 'other': 'x'}])}").examples
    context = "my input" if columns.input else ""
    kind = "my category" if columns.category else ""
    assert example == Example(f"{name}-0", render("my instruction", context), ("my output",), name, kind)


@pytest.mark.parametrize("name", SETS)
def test_a_name_is_loaded_from_the_hub(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    columns = SETS[name].columns
    row = {column: f"my {field}" for field, column in columns._asdict().items() if column}
    calls = []

    def fake(*args: Any, **options: Any) -> datasets.Dataset:
        calls.append((args, options))
        return datasets.Dataset.from_list([row])

    monkeypatch.setattr(datasets, "load_dataset", fake)
    (example,) = load(name).examples
    assert (example.id, example.targets) == (f"{name}-0", ("my output",))
    assert calls == [((SETS[name].hub, "main" if name == "gsm8k" else None), {"split": "train"})]


def test_a_hub_out_of_reach_is_one_line_that_asks_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    line = refused("dolly")
    assert "databricks/databricks-dolly-15k cannot be loaded from the hub" in line
    assert "give a local file of it as 'dolly:FILE'" in line
    assert capfd.readouterr() == ("", "")


def test_a_category_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{**row, "topic": "x"} for row in ROWS])
    for data in (path, f"codealpaca:{path}"):
        assert {example.task_type for example in load(data, category="topic").examples} == {"x"}
        line = refused(data, category="level")
        assert line == f"{path}: no column 'level' for the category; the columns are {', '.join((*ROWS[0], 'topic'))}"


def test_absent_inputs_and_categories_are_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{**ROWS[0], "input": None, "category": None}, ROWS[1]])
    assert load(path).examples[0] == Example("a-0", render("Add."), ("2",), "a", "")


@pytest.mark.filterwarnings("ignore:.*left out")
@given(st.lists(st.sampled_from(["x", " \n", ""]), min_size=1, max_size=8), st.integers(0, 9), st.integers(0, 3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_drawn_in_order_from_those_with_text(tmp_path: Path, outputs: list[str], rows: int, seed: int) -> None:
    usable = [row for row, output in enumerate(outputs) if output == "x"]
    path = write(tmp_path / "a.json", [{"instruction": "i", "output": output} for output in outputs])
    if not usable:
        assert f"none of the {len(outputs)} rows has both" in refused(path)
        return
    loaded = load(path, rows=rows, seed=seed)
    drawn = [int(example.id.removeprefix("a-")) for example in loaded.examples]
    assert drawn == sorted(drawn)
    assert set(drawn) <= set(usable)
    assert len(drawn) == min(rows or len(usable), len(usable))
    assert loaded == load(path, rows=rows, seed=seed)
    assert loaded.dropped == len(outputs) - len(usable)
    assert loaded.first_dropped == next((row for row, output in enumerate(outputs) if output != "x"), None)


def test_seeds_draw_different_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"instruction": "i", "output": "o"}] * 100)
    assert load(path, rows=50, seed=1) != load(path, rows=50, seed=2)


def test_rows_left_out_are_warned_of_once(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[0], "instruction": " "}, {**ROWS[0], "output": "\n"}]
    path = write(tmp_path / "a.json", rows)
    with pytest.warns(UserWarning) as caught:
        load(path)
    (warning,) = caught
    assert str(warning.message) == (
        f"{path}: 2 rows without an instruction or a response left out, the first is row 1 (counted from 0)"
    )
    assert warning.filename == __file__


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    for text in ("one", "two"):  # of one length
        path = write(tmp_path / "a.json", [{"instruction": "i", "output": text}])
        assert load(path).examples[0].targets == (text,)


def test_loading_is_silent_and_leaves_settings_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    load(write(tmp_path / "a.json", ROWS))
    refused(write(tmp_path / "b.json", 3))
    assert capfd.readouterr() == ("", "")
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'[{"instruction": "a", "out'),
        ("a.jsonl", b'{"instruction": "a", "output": "b"}\n{"instruction": "a", "out'),
        ("a.json", b"hello"),
        ("a.json", b"3"),
        ("a.json", b"[]"),
        ("a.json", '[{"instruction": "é", "output": "b"}]'.encode("latin-1")),
        ("a.parquet", b"hello"),
        ("a.csv", b"\n"),
        ("a.csv", b'instruction,output\na,"b'),
        ("a.csv", b"instruction,output\na,b,c\n"),
        ("a.csv", b"instruction,output\na,b\na,b,c\n"),
        ("a.csv", "instruction,output\né,b\n".encode("latin-1")),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refused(str(path)).startswith(str(path))


def test_an_empty_file_and_other_formats_are_named(tmp_path: Path) -> None:
    for name, words in {"a.json": "the file is empty", "a.txt": "cannot read '.txt' files", "a": "give one of"}.items():
        (tmp_path / name).touch()
        assert words in refused(str(tmp_path / name))


def test_a_name_without_set_or_file_gives_the_nearest_set() -> None:
    assert refused("doly") == "doly: neither a file that exists nor a known set; did you mean 'dolly'?"
    assert "did you mean 'mathinstruct'?" in refused("MathInstruct:a.json")
    assert refused("data/x.json").endswith(f"nor a known set; the known sets are {', '.join(SETS)}, tiny")
    for data in ("dolly:x.json", "dolly:"):
        assert refused(data) == (
            f"{data}: no such file; give one that exists, or 'dolly' alone to fetch it from the hub"
        )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"prompt": "a", "text": "b"}], "no column for the output, named one of output, response, answer, completion"),
        ([{"text": "a", "answer": "b"}], "found text, answer"),
        ([{**ROWS[0], "output": 5}], "row 0 (counted from 0), column 'output'"),
        ([{**ROWS[0], "instruction": ["a"]}], "column 'instruction': expected text, found list"),
        (
            [ROWS[0], {**ROWS[0], "output": None}],
            "row 1 (counted from 0), column 'output': expected text, found nothing",
        ),
        ([{**ROWS[0], "category": 1}], "column 'category'"),
        ([{**ROWS[0], "input": {"a": "b\nc"}}], "column 'input': expected text, found dict"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_a_bad_column_is_named_with_file_and_row(tmp_path: Path, suffix: str, rows: Any, words: str) -> None:
    path = write(tmp_path / f"a{suffix}", rows)
    line = refused(path)
    assert line.startswith(f"{path}: ")
    assert words in line


@pytest.mark.parametrize("first", ["two", "2"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_number_among_texts_is_named_with_its_row(tmp_path: Path, suffix: str, first: str) -> None:
    path = write(tmp_path / f"a{suffix}", [{**ROWS[0], "output": first}, {**ROWS[0], "output": 5}])
    assert f"{path}: row 1 (counted from 0), column 'output': expected text, found int '5'" in refused(path)


def test_a_text_that_looks_like_a_date_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"instruction": "When?", "output": "2020-01-01"}])
    assert load(path).examples[0].targets == ("2020-01-01",)


def test_a_number_far_down_a_long_file_does_not_become_text(tmp_path: Path) -> None:
    rows = [{"instruction": "i" * 100_000, "output": "o"}] * 120 + [{"instruction": "i", "output": 5}]
    assert "row 120 (counted from 0), column 'output'" in refused(write(tmp_path / "a.jsonl", rows))


def test_a_sets_missing_column_is_named_with_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ROWS)
    assert refused(f"dolly:{path}") == (
        f"{path}: no column 'response' for the output; the columns are instruction, input, output, category"
    )


def test_a_negative_number_of_rows_is_an_error() -> None:
    assert "rows = -1" in refused("dolly", rows=-1)


PUBLISHED = {
    "dolly": ("databricks-dolly-15k/databricks-dolly-15k.jsonl", 6000),
    "medalpaca": ("medalpaca/medical_meadow_small.json", 2500),
    "codealpaca": ("codealpaca/code_alpaca_2k.json", 1715),
    "mathinstruct": ("mathinstruct/MathInstruct_sample.json", 2),
    "alpaca": ("alpaca/alpaca_data.json", 1700),
    "gsm8k": ("gsm8k/train.jsonl", 2500),
}


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("name", SETS)
def test_a_published_set_reads_whole(real_data: Path, name: str) -> None:
    file, usable = PUBLISHED[name]
    path = real_data / "data" / file
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    columns = SETS[name].columns
    examples = load(f"{name}:{path}").examples
    assert len(examples) == usable
    for example in examples:
        row = rows[int(example.id.removeprefix(f"{name}-"))]
        assert example.query == render(row[columns.instruction], row.get(columns.input, ""))
        assert example.targets == (row[columns.output],)
        assert example.task_type == row.get(columns.category, "")


@pytest.mark.real_data
def test_dollys_rows_are_of_eight_categories(real_data: Path) -> None:
    path = real_data / "data" / PUBLISHED["dolly"][0]
    kinds = Counter(example.task_type for example in load(f"dolly:{path}").examples)
    assert len(kinds) == 8
    assert (max(kinds.values()), kinds["creative_writing"]) == (1491, 283)
    plain = load(str(path), rows=100).examples  # by usual names as well
    assert plain[0].id.startswith("databricks-dolly-15k-")
    assert len(plain) == 100


@pytest.mark.real_data
def test_codealpacas_two_rows_without_response_are_left_out(real_data: Path) -> None:
    path = real_data / "data" / PUBLISHED["codealpaca"][0]
    with pytest.warns(UserWarning, match=r"code_alpaca_2k\.json: 2 rows .* left out, the first is row 203 "):
        loaded = load(f"codealpaca:{path}")
    assert (loaded.dropped, loaded.first_dropped) == (2, 203)


@pytest.mark.real_data
def test_known_rows_render_as_published(real_data: Path) -> None:
    def first(name: str) -> Example:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*left out")
            return load(f"{name}:{real_data / 'data' / PUBLISHED[name][0]}").examples[0]

    assert first("medalpaca").query == PLAIN + ("### Instruction:\nWhat are the symptoms of Allergy?\n\n### Response:")
    assert first("codealpaca")[1:3] == (
        PAIRED + "### Instruction:\nWhat are the distinct values from the given list?\n\n"
        "### Input:\ndataList = [3, 9, 3, 5, 7, 9, 5]\n\n### Response:",
        ("The distinct values from the given list are 3, 5, 7 and 9.",),
    )
    assert first("gsm8k")[1:3] == (
        PLAIN + "### Instruction:\nWeng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of "
        "babysitting. How much did she earn?\n\n### Response:",
        (
            "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = "
            "$<<0.2*50=10>>10.\n#### 10",
        ),
    )
    assert first("mathinstruct").task_type == "data/CoT/aqua_rat.json"


def test_the_embedded_set_needs_no_file_and_has_dollys_categories() -> None:
    """4,000 rows, an eighth of each category; `rows` draws from them as from any set."""
    loaded = load("tiny")
    kinds = [example.task_type for example in loaded.examples]
    assert {kind: kinds.count(kind) for kind in tiny.CATEGORIES} == dict.fromkeys(tiny.CATEGORIES, 500)
    assert loaded.dropped == 0 and {example.task for example in loaded.examples} == {"tiny"}
    assert loaded.examples[3].query.startswith(PAIRED)
    assert len(load("tiny", rows=10).examples) == 10


def test_a_category_of_the_embedded_set_is_a_set_of_its_own() -> None:
    every, own = load("tiny").examples, load("tiny:classification").examples
    assert [example.query for example in own] == [
        example.query for example in every if example.task_type == "classification"
    ]
    with pytest.raises(InputError, match=r"tiny:poems: no such category; the embedded set has open_qa, "):
        load("tiny:poems")
