"""The federated data set on disk: a TFDS builder with the configs `hhf`, `mhf` and `lhf`, written as ArrayRecord.

One record is one instance; records lie client after client, so that a client is a contiguous range and is read
without touching another's. Beside the records, in `metadata.json`, are the clients' borders, the tasks' descriptions,
the settings and what was dropped. TFDS writes into a folder under another name and renames it when all is there, so an
interrupted write never looks like a data set. `write` writes, `open` reads.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from profit_jax.data import metadata as stored
from profit_jax.data.examples import Example
from profit_jax.data.partition import PARTITIONS, Partition
from profit_jax.data.tasks import Task, descriptions
from profit_jax.errors import InputError
from profit_jax.files import opened
from profit_jax.progress import Progress

VERSION = "1.0.0"
_RECORDS_A_FILE = 1 << 17


@dataclass(frozen=True)
class Report:
    """What was found, what was left out, and what the clients hold."""

    tasks: int
    instances: int  # usable ones
    dropped: int  # instances without an answer that is not blank
    first_dropped: str | None  # the first file that has one
    task_types: dict[str, list[str]]  # train, validation, test, excluded -> the types found
    too_small: dict[str, int]  # types with too few instances for one client -> instances
    statistics: dict[str, Any]  # see `statistics.record`


class Records(Protocol):
    """Random access to encoded records."""

    def __getitems__(self, keys: Sequence[int], /) -> Sequence[bytes]:
        """The records of these numbers."""
        ...


class StoredClients:
    """One split's clients, read from disk when asked for: a `Clients` whose texts are never all in memory.

    Args:
      records: the split's records, client after client.
      offsets: `[clients + 1]`; client c holds the records `offsets[c]` to `offsets[c + 1]`.
      where: what errors name.
    """

    def __init__(self, records: Records, offsets: Sequence[int], where: str = "records"):
        self._records, self._where = records, where
        self._offsets = np.array(offsets, np.int64)
        self.sizes = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, client: int) -> list[Example]:
        client = range(len(self))[client]
        keys = range(int(self._offsets[client]), int(self._offsets[client + 1]))
        return self.take(keys)

    def take(self, numbers: Sequence[int]) -> list[Example]:
        """Examples by their number in the concatenation of all clients.

        Raises:
          InputError: a damaged record.
        """
        try:
            return [decode(record) for record in self._records.__getitems__([int(number) for number in numbers])]
        except Exception as error:  # of ArrayRecord, of protobuf, of what a record lacks: they have no type in common
            raise InputError(f"{self._where}: damaged records: {error}; prepare the partition again") from None


@dataclass(frozen=True)
class FederatedSNI:
    """A prepared partition, opened.

    `tasks` maps a task's name to its description (definition, examples, metadata; no instances); `settings` and
    `report` tell how the partition was made.
    """

    partition: str
    train: StoredClients
    validation: StoredClients
    test: StoredClients
    tasks: Mapping[str, Task]
    settings: Mapping[str, Any]
    report: Report


class Builder(tfds.core.DatasetBuilder):
    """Writes one partition as the TFDS data set `federated_sni/<config>`."""

    name = "federated_sni"
    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in PARTITIONS]  # noqa: RUF012 TFDS's own form
    url_infos = None  # nothing is downloaded, so there are no checksums to look for

    def __init__(
        self,
        *,
        config: str,
        data_dir: str | os.PathLike[str],
        corpus: Sequence[Example],
        clients: Mapping[str, Partition],
        metadata: Mapping[str, Any],
    ):
        self._corpus, self._clients, self._metadata = corpus, clients, metadata
        super().__init__(config=config, data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        fields = dict.fromkeys(Example._fields, text) | {"targets": tfds.features.Sequence(text)}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Super-NaturalInstructions, partitioned into clients; records lie client after client.",
            features=tfds.features.FeaturesDict(fields),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._metadata),
        )

    def _as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("ArrayRecord files are read by as_data_source")

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        """Writes the records as they stream by; TFDS's generator-based builders hold many examples in memory."""
        written = [self._write(split, clients.order) for split, clients in self._clients.items()]
        self.info.set_splits(tfds.core.SplitDict(written))

    def _write(self, split: str, order: np.ndarray) -> tfds.core.SplitInfo:
        template = _template(self.data_path, split)
        files = np.array_split(order, -(-len(order) // _RECORDS_A_FILE))
        size = 0
        with Progress(f"write {self.builder_config.name} {split}", len(order), "instances") as shown:
            for i, instances in enumerate(files):
                path = template.sharded_filepath(shard_index=i, num_shards=len(files))
                writer = ArrayRecordWriter(os.fspath(path), "group_size:1")
                for instance in instances.tolist():
                    record = encode(self._corpus[instance])
                    writer.write(record)
                    size += len(record)
                    shown.advance()
                writer.close()
        lengths = [len(instances) for instances in files]
        return tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template)


def encode(example: Example) -> bytes:
    """The record of an example: the `tf.train.Example` that TFDS writes for these features, ten times as fast."""
    record = tf_example_pb2.Example()
    for name, value in example._asdict().items():
        texts = value if name == "targets" else (value,)
        record.features.feature[name].bytes_list.value.extend(text.encode() for text in texts)
    return record.SerializeToString(deterministic=True)


def decode(record: bytes) -> Example:
    """The inverse of `encode`."""
    fields = tf_example_pb2.Example.FromString(record).features.feature
    texts = {name: tuple(text.decode() for text in fields[name].bytes_list.value) for name in Example._fields}
    values: dict[str, Any] = {name: value if name == "targets" else value[0] for name, value in texts.items()}
    return Example(**values)


def write(
    config: str,
    data_dir: str | os.PathLike[str],
    corpus: Sequence[Example],
    clients: Mapping[str, Partition],
    metadata: Mapping[str, Any],
) -> None:
    """Writes one partition, whole or not at all; one that is already there stays as it is.

    Args:
      config: `hhf`, `mhf` or `lhf`.
      data_dir: the partition goes to `<data_dir>/federated_sni/<config>/<version>`.
      corpus: the instances that `clients` number.
      clients: split -> its clients.
      metadata: `settings`, `report` and `tasks`, as JSON; the clients' borders are added.
    """
    borders = {split: cut.offsets.tolist() for split, cut in clients.items()}
    builder = Builder(
        config=config, data_dir=data_dir, corpus=corpus, clients=clients, metadata={**metadata, "clients": borders}
    )
    # TFDS prints that it downloads, and makes a folder for it.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as downloads:
        builder.download_and_prepare(download_dir=downloads, file_format="array_record")


def open(path: str | os.PathLike[str]) -> FederatedSNI:
    """Opens a prepared partition; nothing but its metadata is read until a client is asked for.

    Args:
      path: the partition's folder, such as `…/federated_sni/hhf`.

    Returns:
      The clients of each split, as `train`, `validation` and `test`; and the tasks' descriptions, by name, as `tasks`.

    Raises:
      InputError: there is no prepared partition, its metadata is damaged, or its files hold other records.

    >>> import tempfile
    >>> from profit_jax.data import prepare, tiny
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prepared = prepare.prepare(tiny.write(folder, instances=40), folder, partitions=["hhf"], chunk_size=40)
    ...     clients = open(prepared["hhf"].folder)
    ...     len(clients.train), len(clients.train[0]), clients.train[0][0].task_type
    (91, 40, 'Coreference Resolution')
    """
    folder = Path(path) / VERSION
    metadata = stored.read(folder)
    if metadata is None:
        prepared = [name for name in PARTITIONS if (Path(path) / name / VERSION).is_dir()]
        hint = f"; open one of {', '.join(prepared)} in it" if prepared else "; launch/prepare_sni.py writes one"
        raise InputError(f"{path}: no prepared partition here{hint}")
    clients = {split: _clients(folder, split, offsets) for split, offsets in metadata["clients"].items()}
    return FederatedSNI(
        partition=metadata["settings"]["partition"],
        tasks=descriptions(metadata["tasks"], str(folder / "metadata.json")),
        settings=metadata["settings"],
        report=Report(**metadata["report"]),
        **clients,
    )


def _clients(folder: Path, split: str, offsets: Sequence[int]) -> StoredClients:
    """A split's clients. Its files go by the names that `Builder` gives them: nothing stored can name others."""
    template, again = _template(folder, split), f"delete {folder} and prepare it again"
    paths = sorted(folder.glob(f"{Builder.name}-{split}.array_record-*"))
    named = [Path(template.sharded_filepath(shard_index=i, num_shards=len(paths))) for i in range(len(paths))]
    if not paths or paths != named:
        raise InputError(f"{folder}: files with the records of {split} are missing; {again}")
    for path in paths:
        with opened(path, again):  # a file at all
            pass
    try:
        records = ArrayRecordDataSource([os.fspath(path) for path in paths])
    except Exception as error:  # of ArrayRecord
        raise InputError(f"{folder}: the records of {split} are damaged: {error}; {again}") from None
    if len(records) != offsets[-1]:
        raise InputError(f"{folder}: {split} has {len(records)} records, not {offsets[-1]}; {again}")
    return StoredClients(records, offsets, f"{folder}, {split}")


def _template(folder: str | os.PathLike[str], split: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=Builder.name, split=split, filetype_suffix="array_record"
    )
