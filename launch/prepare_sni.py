"""Prepares Super-NaturalInstructions for federated training: three partitions on disk, and their statistics.

    python -m launch.prepare_sni --source_dir=natural-instructions --data_dir=data
    python -m launch.prepare_sni --source_dir=some_tasks --data_dir=data --chunk_size=150   # for a small sample

Writes `<data_dir>/federated_sni/{hhf,mhf,lhf}` and `<data_dir>/federated_sni/statistics.json`. What is there already is
reused if it was made with the same flags from the same files, and otherwise left alone with an error.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from launch._done import Done
from launch._main import command, run
from profit_jax.data import tiny
from profit_jax.data.partition import PARTITIONS
from profit_jax.data.prepare import Prepared, prepare
from profit_jax.data.splits import METHODS
from profit_jax.data.store import Report

SOURCE_DIR = flags.DEFINE_string(
    "source_dir", None, "The release's folder `tasks`, or its parent; tiny: the embedded corpus.", required=True
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data sets go.", required=True)
CHUNK_SIZE = flags.DEFINE_integer("chunk_size", 1200, "Instances of a client, about.")
SPLIT = flags.DEFINE_enum("split", "paper", METHODS, "Validation and test task types: the paper's, or 10 % each drawn.")
SEED = flags.DEFINE_integer("seed", 0, "Of the shuffles, and of the random split.", lower_bound=0)
PARTITION_NAMES = flags.DEFINE_list("partitions", list(PARTITIONS), "What to write.")


def main(argv: Sequence[str]) -> Done:
    """Prepares, and prints what was found, left out and written."""
    del argv
    source = SOURCE_DIR.value
    if source == "tiny":
        source = tiny.write(Path(DATA_DIR.value) / "tiny")
    prepared = prepare(
        source,
        DATA_DIR.value,
        partitions=PARTITION_NAMES.value,
        chunk_size=CHUNK_SIZE.value,
        split=SPLIT.value,
        seed=SEED.value,
    )
    for line in (*found(next(iter(prepared.values())).report), "", *table(prepared), "", *divergences(prepared), ""):
        print(line)
    for data in prepared.values():
        print(f"{'reused' if data.reused else 'written'}: {data.folder}")
    config = "tiny" if SOURCE_DIR.value == "tiny" else "small"
    partition = next(iter(prepared))
    trained = command(
        "profit_train",
        config=f"configs/profit/{config}.py:{partition}",
        **{"config.model": "tiny", "config.data_dir": DATA_DIR.value},
        workdir=f"runs/{partition}",
    )
    return Done(f"{len(prepared)} partitions prepared", Path(DATA_DIR.value) / "federated_sni", [trained])


def found(report: Report) -> list[str]:
    """What the task files hold, and what is left out."""
    kinds = report.task_types
    lines = [
        f"found: {report.instances:,} instances of {report.tasks:,} tasks of {sum(map(len, kinds.values()))} types"
    ]
    if report.dropped:
        lines.append(f"dropped, without an answer: {report.dropped:,}, the first in {report.first_dropped}")
    if kinds["excluded"]:
        lines.append(f"excluded task types: {', '.join(kinds['excluded'])}")
    if report.too_small:
        small = ", ".join(f"{name} ({count})" for name, count in report.too_small.items())
        lines.append(f"left out, too small for one client: {small}")
    return lines


def table(prepared: Mapping[str, Prepared]) -> list[str]:
    """Clients and instances of each split and partition, in the columns of Profit's Table 1."""
    first = next(iter(prepared.values())).report.statistics
    rows = {f"train {name}": data.report.statistics for name, data in prepared.items()}
    rows |= {split: first[split] for split in ("validation", "test")}
    lines = [f"{'':12}{'clients':>9}{'instances':>12}{'a client has instances':>26}{'tasks':>16}{'task types':>16}"]
    for name, row in rows.items():
        columns = [_spread(row[column]) for column in ("instances", "tasks", "task_types")]
        lines.append(
            f"{name:12}{row['clients']:>9,}{row['total_instances']:>12,}{columns[0]:>26}{columns[1]:>16}{columns[2]:>16}"
        )
    return lines


def divergences(prepared: Mapping[str, Prepared]) -> list[str]:
    """The values of Profit's Figure 6."""
    rows = {name: data.report.statistics["kl_divergence"] for name, data in prepared.items()}
    categories = list(next(iter(rows.values())))
    lines = ["mean KL(client || all train clients), nats", f"{'':12}" + "".join(f"{name:>17}" for name in categories)]
    return lines + [f"{name:12}" + "".join(f"{row[key]:>17.4f}" for key in categories) for name, row in rows.items()]


def _spread(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.1f} ± {value['std']:.1f}"


if __name__ == "__main__":
    run(main)
