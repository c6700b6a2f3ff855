"""Draws whatever the records of some workdirs allow, as PNG and PDF.

    python launch/plot.py --workdir=runs/adam,runs/sgd --labels="FedAvg(Adam),FedAvg(SGD)" --out=figures

A workdir of stage 1 gives `training_loss` and `training_norms`, one of stage 2 `tradeoff`, `genie`,
`percentiles` and `clients_<label>`, a folder with prepared data `heterogeneity`; runs of one stage share a figure.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from matplotlib.figure import Figure

from launch._main import run
from profit_jax.errors import InputError
from profit_jax.plots import heterogeneity, records, style, tradeoff, training

WORKDIR = flags.DEFINE_list("workdir", None, "Folders with records, separated by commas.", required=True)
OUT = flags.DEFINE_string("out", None, "Where figures go; without it `figures` in the first workdir.")
LABELS = flags.DEFINE_list(
    "labels", None, "The runs' names in legends, one a workdir; without them the folders' names."
)


def main(argv: Sequence[str]) -> None:
    """Draws and prints the files written."""
    del argv
    workdirs = [Path(folder) for folder in WORKDIR.value]
    labels = LABELS.value or [folder.resolve().name for folder in workdirs]
    if len(labels) != len(workdirs):
        raise InputError(f"--labels: {len(labels)} labels for {len(workdirs)} workdirs")
    if len(set(labels)) < len(labels):
        raise InputError(f"two runs are called {max(labels, key=labels.count)!r}: name them with --labels")
    out = Path(OUT.value) if OUT.value else workdirs[0] / "figures"
    for name, figure in figures(workdirs, labels).items():
        for path in style.save(figure, out / name):
            print(path)


def figures(workdirs: Sequence[Path], labels: Sequence[str]) -> dict[str, Figure]:
    """Every figure that the records allow, by file name.

    Raises:
      InputError: a workdir without records, or with damaged ones.
    """
    runs, drawn = [], {}
    for folder, label in zip(workdirs, labels, strict=True):
        statistics = folder / "statistics.json"
        if statistics.exists():
            key = "heterogeneity" if "heterogeneity" not in drawn else f"heterogeneity_{file_name(label)}"
            drawn[key] = heterogeneity.divergences(records.read_divergences(statistics))
        if (folder / "config.json").exists() or not statistics.exists():
            runs.append(records.open_run(folder, label))
            if not runs[-1].rounds and not runs[-1].clients:
                raise InputError(f"{folder}: neither metrics.jsonl nor clients.jsonl holds a record")
    trained = [run for run in runs if run.rounds]
    personalized = [run for run in runs if run.clients]
    if trained:
        drawn["training_loss"] = training.loss(trained)
        drawn["training_norms"] = training.norms(trained)
    if personalized:
        title = common_partition(personalized)
        drawn["tradeoff"] = tradeoff.means(personalized, title)
        if any(line["point"] == "genie" for run in personalized for line in run.clients):
            drawn["genie"] = tradeoff.means(personalized, title, genie=True)
        drawn["percentiles"] = tradeoff.percentiles(personalized, title=title)
        for run in personalized:
            drawn[f"clients_{file_name(run.label)}"] = tradeoff.clients(run)
    return drawn


def common_partition(runs: Sequence[records.Run]) -> str:
    """The partition that all runs were trained on, for a title; empty when they differ."""
    partitions = {run.config.get("partition") for run in runs}
    return f"{str(partitions.pop()).upper()}-SNI" if len(partitions) == 1 and None not in partitions else ""


def file_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^\w.=-]+", "_", label, flags=re.ASCII).strip("_")


if __name__ == "__main__":
    run(main)
