"""Prepared partitions: the metadata, and the files of records."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.data import sni, store
from profit_jax.data.examples import Example
from profit_jax.data.prepare import prepare
from tests.fuzz import faults, law
from tests.fuzz.test_tasks import TYPES, published

SPLITS = ("train", "validation", "test")
RECORDS = "federated_sni-train.array_record-00000-of-00001"


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of a partition of three clients."""
    source = tmp_path_factory.mktemp("source")
    for number, kind in enumerate(TYPES):
        (source / f"task{number}.json").write_text(json.dumps(published(kind)))
    prepare(source, source / "data", partitions=["hhf"], chunk_size=3)
    return source / "data" / "federated_sni" / "hhf" / store.VERSION


def everything(folder: Path) -> dict[str, list[list[Example]]]:
    opened = sni.open(folder.parent)
    return {split: [[*clients] for clients in getattr(opened, split)] for split in SPLITS}


@pytest.fixture(scope="module")
def whole(partition: Path) -> dict[str, list[list[Example]]]:
    return everything(partition)


@law.cases
@given(st.data())
def test_metadata(partition: Path, whole: dict[str, list[list[Example]]], data: st.DataObject) -> None:
    file = partition / "metadata.json"
    fault = data.draw(faults.or_no_file(faults.damaged_json(json.loads(file.read_text()))))

    def right(found: dict[str, list[list[Example]]]) -> None:
        said = json.loads(file.read_bytes().decode("utf-8-sig"))["clients"]
        for split, clients in found.items():
            assert [*itertools.chain(*clients)] == [*itertools.chain(*whole[split])]
            sizes = [after - before for before, after in zip(said[split], said[split][1:])]
            assert [len(client) for client in clients] == sizes

    with faults.spoilt(file, fault):
        law.holds(lambda: everything(partition), partition, [partition], right)


@law.cases
@given(st.data())
@pytest.mark.parametrize("name", [RECORDS, "dataset_info.json", "features.json"])
def test_the_other_files(
    partition: Path, whole: dict[str, list[list[Example]]], name: str, data: st.DataObject
) -> None:
    """Checksums guard the records; what TFDS alone reads cannot mislead us."""
    file = partition / name
    fault = data.draw(faults.or_no_file(faults.damaged(file.read_bytes())))
    with faults.spoilt(file, fault):
        law.holds(lambda: everything(partition), partition, [partition], lambda found: _same(found, whole))


def _same(found: object, whole: object) -> None:
    assert found == whole


@law.cases
@given(faults.damaged(store.encode(Example("id", "query", ("a", "b"), "task", "type"))))
def test_a_record(record: bytes) -> None:
    """What is read is text, and is written again as a record that reads the same."""

    class Records:
        def __getitems__(self, keys: object) -> list[bytes]:
            return [record]

    def right(examples: list[Example]) -> None:
        assert [store.decode(store.encode(example)) for example in examples] == examples

    clients = store.StoredClients(Records(), [0, 1], "the records of a test")
    law.holds(lambda: clients[0], Path("/nowhere/at all"), ["the records of a test"], right)
