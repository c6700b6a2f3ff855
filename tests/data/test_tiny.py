from pathlib import Path

from profit_jax.data import sni, tiny
from profit_jax.data.splits import split_types


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sni.task_files(folder)}


def test_the_corpus_reads_as_published_task_files(tmp_path: Path) -> None:
    tasks = [sni.read_task(path) for path in sni.task_files(tiny.write(tmp_path, instances=7))]
    assert len(tasks) == 2 * len(tiny.TYPES) == 26
    assert [(len(task.instances), task.dropped) for task in tasks] == [(7, ())] * len(tasks)
    assert {task.task_type for task in tasks} == set(tiny.TYPES)
    assert all(len(task.positive_examples) == 2 and task.domains and task.source for task in tasks)


def test_the_paper_split_finds_types_for_every_split() -> None:
    assert [len(names) for names in split_types(tiny.TYPES)] == [6, 3, 3, 1]


def test_a_seed_gives_one_corpus(tmp_path: Path) -> None:
    one, again, other = (tmp_path / name for name in ("one", "again", "other"))
    for folder, seed in ((one, 1), (again, 1), (other, 2)):
        tiny.write(folder, seed, instances=5)
    assert content(one) == content(again) != content(other)
