import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from profit_jax.data import sni, statistics, store, tiny
from profit_jax.data.corpus import Corpus
from profit_jax.data.examples import Example
from profit_jax.data.partition import PARTITIONS
from profit_jax.data.prepare import prepare
from profit_jax.data.tiny import corpus, training
from profit_jax.errors import InputError

CHUNK = 15
INSTANCES = 30


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("source"), instances=INSTANCES)


@pytest.fixture(scope="module")
def data(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare(source, folder, chunk_size=CHUNK)
    return folder / "federated_sni"


def everything(clients: store.StoredClients) -> list[Example]:
    return [example for c in range(len(clients)) for example in clients[c]]


def published(source: Path) -> dict[str, Example]:
    tasks = [sni.read_task(path) for path in sni.task_files(source)]
    return {i.id: Example(i.id, i.input, i.output, task.name, task.task_type) for task in tasks for i in task.instances}


@pytest.mark.parametrize("name", PARTITIONS)
def test_the_clients_together_hold_every_instance_once_and_exactly(source: Path, data: Path, name: str) -> None:
    opened = sni.open(data / name)
    read = [*everything(opened.train), *everything(opened.validation), *everything(opened.test)]
    expected = {id_: example for id_, example in published(source).items() if example.task_type != "Mathematics"}
    assert len(read) == len(expected)
    assert {example.id: example for example in read} == expected
    assert opened.partition == name


@pytest.mark.parametrize("name", PARTITIONS)
def test_any_client_alone_is_the_client_in_order(source: Path, data: Path, name: str) -> None:
    clients = sni.open(data / name).train
    in_order = everything(clients)
    starts = np.cumsum(clients.sizes) - clients.sizes
    for client in (len(clients) - 1, 3, 0, -1):
        start = starts[client]
        assert clients[client] == in_order[start : start + clients.sizes[client]]
        assert len(clients[client]) == clients.sizes[client]
    with pytest.raises(IndexError):
        clients[len(clients)]


def test_a_client_is_read_without_any_other_clients_records() -> None:
    asked: list[int] = []

    class Records:
        def __getitems__(self, keys: Sequence[int]) -> list[bytes]:
            asked.extend(keys)
            return [store.encode(Example(str(key), "q", ("a",), "t", "T")) for key in keys]

    clients = store.StoredClients(Records(), [0, 2, 5, 9])
    assert clients.sizes.tolist() == [2, 3, 4]
    assert asked == []
    assert [example.id for example in clients[1]] == ["2", "3", "4"]
    assert asked == [2, 3, 4]


def test_validation_and_test_clients_are_the_same_in_all_partitions(data: Path) -> None:
    opened = [sni.open(data / name) for name in PARTITIONS]
    for split in ("validation", "test"):
        first, *others = (everything(getattr(one, split)) for one in opened)
        assert all(other == first for other in others)
    assert len({len(one.train) for one in opened}) == 1
    types = [{example.task_type for example in everything(getattr(opened[2], split))} for split in ("train", "test")]
    assert types[0].isdisjoint(types[1])


def test_task_descriptions_come_with_the_store(source: Path, data: Path) -> None:
    tasks = sni.open(data / "mhf").tasks
    assert list(tasks) == [path.stem for path in sni.task_files(source)]
    read = sni.read_task(source / "task001_tiny_keyword_tagging_1.json")
    assert tasks[read.name].positive_examples == read.positive_examples
    assert tasks[read.name].definition == read.definition


def test_tfds_reads_the_store_by_itself(data: Path) -> None:
    builder = tfds.builder_from_directory(data / "lhf" / store.VERSION)
    example = sni.open(data / "lhf").train[0][0]
    record = builder.as_data_source("train")[0]
    assert record["query"].decode() == example.query
    assert [target.decode() for target in record["targets"]] == list(example.targets)
    assert builder.info.splits["train"].num_examples == sum(sni.open(data / "lhf").train.sizes)


def test_records_are_those_of_tfds() -> None:
    example = Example("i", "what é?\n", ("ja", "ü", ""), "t", "T")
    text = tfds.features.Text()
    features = tfds.features.FeaturesDict(
        dict.fromkeys(Example._fields, text) | {"targets": tfds.features.Sequence(text)}
    )
    theirs = features.serialize_example(features.encode_example(example._asdict()))
    assert tf_example_pb2.Example.FromString(store.encode(example)) == tf_example_pb2.Example.FromString(theirs)
    assert store.decode(theirs) == example
    assert store.decode(store.encode(example)) == example


def test_a_split_longer_than_a_file_keeps_its_order(
    source: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_RECORDS_A_FILE", 50)
    prepared = prepare(source, tmp_path, chunk_size=CHUNK, partitions=["lhf"])
    assert len(list((prepared["lhf"].folder / store.VERSION).glob("*-train.array_record-*"))) > 1
    assert everything(sni.open(prepared["lhf"].folder).train) == everything(sni.open(data / "lhf").train)


def test_divergence_falls_from_hhf_to_lhf(data: Path) -> None:
    found = json.loads((data / "statistics.json").read_text())
    assert list(found) == list(PARTITIONS)
    high, medium, low = (found[name]["kl_divergence"] for name in PARTITIONS)
    assert low["task"] < medium["task"] < high["task"]
    for category in statistics.CATEGORIES:
        assert low[category] < high[category]
        assert medium[category] <= high[category] * (1 + 1e-12)
    assert found["hhf"]["validation"] == found["lhf"]["validation"]


def test_statistics_are_those_of_the_stored_clients(data: Path) -> None:
    clients = sni.open(data / "lhf").train
    kinds = [len({example.task_type for example in clients[c]}) for c in range(len(clients))]
    found = sni.open(data / "lhf").report.statistics
    assert found["task_types"]["mean"] == pytest.approx(np.mean(kinds))
    assert found["task_types"]["std"] == pytest.approx(np.std(kinds))
    assert found["instances"]["mean"] == pytest.approx(clients.sizes.mean())
    assert found["clients"] == len(clients)


def test_the_same_settings_reuse_what_is_there(source: Path, tmp_path: Path) -> None:
    first = prepare(source, tmp_path, partitions=["hhf"], chunk_size=CHUNK)
    before = {path: path.stat().st_mtime_ns for path in first["hhf"].folder.rglob("*")}
    second = prepare(source, tmp_path, partitions=["mhf", "hhf"], chunk_size=CHUNK)
    assert {name: data.reused for name, data in second.items()} == {"mhf": False, "hhf": True}
    assert second["hhf"].report == first["hhf"].report
    assert {path: path.stat().st_mtime_ns for path in first["hhf"].folder.rglob("*")} == before
    assert set(json.loads((tmp_path / "federated_sni" / "statistics.json").read_text())) == {"hhf", "mhf"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chunk_size": 10}, "chunk_size=15, not 10"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"split": "random"}, "split=paper"),
    ],
)
def test_other_settings_never_write_over(source: Path, data: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=f"hhf was prepared with {words}.*give another data_dir"):
        prepare(source, data.parent, **{"chunk_size": CHUNK, **change})


def test_other_task_files_never_write_over(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepared with other task files"):
        prepare(tiny.write(tmp_path, seed=1, instances=INSTANCES), data.parent, chunk_size=CHUNK)


def test_an_interrupted_write_leaves_nothing_that_opens_and_is_redone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Corpus.__getitem__

    def fail(corpus: Corpus, instance: int) -> Example:
        if instance == len(corpus) // 2:
            raise KeyboardInterrupt
        return read(corpus, instance)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Corpus, "__getitem__", fail)
        prepare(source, tmp_path, partitions=["hhf"], chunk_size=CHUNK)
    with pytest.raises(InputError, match="no prepared partition"):
        sni.open(tmp_path / "federated_sni" / "hhf")
    assert not prepare(source, tmp_path, partitions=["hhf"], chunk_size=CHUNK)["hhf"].reused
    assert len(sni.open(tmp_path / "federated_sni" / "hhf").train) == len(training.TRAIN) * INSTANCES // CHUNK


def test_a_folder_without_a_partition_says_what_to_open(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no prepared partition here; launch/prepare_sni\.py writes one"):
        sni.open(tmp_path / "none")
    with pytest.raises(InputError, match="open one of hhf, mhf, lhf in it"):
        sni.open(data)


@pytest.mark.parametrize("content", [None, "{", '{"settings": {}}'])
def test_damaged_metadata_is_named(data: Path, tmp_path: Path, content: str | None) -> None:
    shutil.copytree(data / "hhf", tmp_path / "hhf")
    path = tmp_path / "hhf" / store.VERSION / "metadata.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=r"metadata\.json: .*prepare it again") as caught:
        sni.open(tmp_path / "hhf")
    assert "\n" not in str(caught.value)


def test_dropped_instances_and_small_types_are_warned_of_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = tiny.write(tmp_path, instances=INSTANCES)
    first, second = (path.stem for path in sorted(tasks.glob("*_pos_tagging_[12].json")))
    next(tasks.glob("*_pos_tagging_3.json")).unlink()
    for name, kept in ((first, 10), (second, 5)):
        task = json.loads((tasks / f"{name}.json").read_text())
        for instance in task["Instances"][kept:]:
            instance["output"] = [""]
        (tasks / f"{name}.json").write_text(json.dumps(task))
    with caplog.at_level(logging.WARNING, logger="absl"):
        prepare(tmp_path, tmp_path, chunk_size=40)
    assert [record.getMessage() for record in caplog.records] == [
        f"dropped instances without an answer: 45, the first in {first}.json",
        "left out 1 of 41 task types, too small for one client; the largest is Pos Tagging with 15 instances",
    ]
    for name in PARTITIONS:
        opened = sni.open(tmp_path / "federated_sni" / name)
        report = opened.report
        assert (report.dropped, report.first_dropped) == (45, f"{first}.json")
        assert report.too_small == {"Pos Tagging": 15}
        assert report.instances == (len(corpus.RULES) - 1) * INSTANCES - 45
        assert all(example.task_type != "Pos Tagging" for example in everything(opened.train))


def test_a_split_without_clients_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no train clients of chunk_size 500: the largest train task type, .* has 210"
    ):
        prepare(source, tmp_path / "a", chunk_size=500)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for path in source.glob("task02*.json"):
        shutil.copy(path, tasks)
    with pytest.raises(InputError, match="no validation clients: split 'paper' finds no validation task type"):
        prepare(tmp_path, tmp_path / "b", chunk_size=10)
    assert not list(tmp_path.rglob("*.array_record*"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partitions": ["xhf"]}, "unknown partition 'xhf'"),
        ({"partitions": []}, "no partition to prepare"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"split": "best"}, "unknown split 'best'"),
    ],
)
def test_bad_settings_are_errors(source: Path, tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        prepare(source, tmp_path, **change)


def test_a_data_folder_that_cannot_be_is_an_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        prepare(source, tmp_path / "file", chunk_size=CHUNK)


@pytest.mark.real_data
def test_the_real_subset_is_prepared_in_all_partitions(real_data: Path, tmp_path: Path) -> None:
    prepared = prepare(real_data / "data" / "natural-instructions", tmp_path, chunk_size=150)
    for name, data in prepared.items():
        opened = sni.open(data.folder)
        assert [len(opened.train), len(opened.validation), len(opened.test)] == [98, 32, 30], name
        assert len(everything(opened.train)) == data.report.statistics["total_instances"]
        assert data.report.dropped == 1
    divergences = [prepared[name].report.statistics["kl_divergence"] for name in PARTITIONS]
    assert all(low[key] < medium[key] for _, medium, low in [divergences] for key in low)
    assert all(medium[key] < high[key] for high, medium, _ in [divergences] for key in high if key != "task_type")
