"""Draws whatever the records of some workdirs allow, as PNG and PDF.

    python launch/plot.py --workdir=runs/adam,runs/sgd --labels="FedAvg(Adam),FedAvg(SGD)" --out=figures

A workdir of stage 1 gives `training_loss` and `training_norms`, one of stage 2 `tradeoff`, `genie`,
`percentiles` and `clients_<label>`, a folder with prepared data `heterogeneity`; runs of one stage share a figure.

A workdir of PerFIT, FIT or local training gives `training_loss` and `training_norms` too, `perplexity`,
`perplexity_clients` (from two labels on) and `mask_similarity_<label>`, and a table of perplexities, printed and
written as `perplexity.csv`; the first label is what the others are compared with.

Runs that share a label are seeds of one setting: figures of Profit show their mean, those of perplexity their spread
too.
"""

import csv
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from absl import flags
from matplotlib.figure import Figure

from launch._main import run
from profit_jax.errors import InputError
from profit_jax.plots import heterogeneity, masks, perplexity, records, seeds, style, tradeoff, training
from profit_jax.plots import labels as names
from profit_jax.plots.records import Run

WORKDIR = flags.DEFINE_list("workdir", None, "Folders with records, separated by commas.", required=True)
OUT = flags.DEFINE_string("out", None, "Where figures go; without it `figures` in the first workdir.")
LABELS = flags.DEFINE_list(
    "labels",
    None,
    "The runs' names in legends, one a workdir; without them runs of PerFIT are called by setting, others by folder.",
)


def main(argv: Sequence[str]) -> None:
    """Draws and prints the files written, then the table of perplexities if there are any."""
    del argv
    workdirs = [Path(folder) for folder in WORKDIR.value]
    labels = LABELS.value or names.of(workdirs)
    if len(labels) != len(workdirs):
        raise InputError(f"--labels: {len(labels)} labels for {len(workdirs)} workdirs")
    runs = open_runs(workdirs, labels)
    settings = perplexity.by_setting(run for run in runs if run and run.perplexities)
    out = Path(OUT.value) if OUT.value else workdirs[0] / "figures"
    for name, figure in (figures(workdirs, labels, runs) | perplexities(settings)).items():
        for path in style.save(figure, out / name):
            print(path)
    if settings:
        rows = perplexity.summary(settings)
        print(write_csv(rows, out / "perplexity.csv"))
        print(table(rows))


def open_runs(workdirs: Sequence[Path], labels: Sequence[str]) -> list[Run | None]:
    """The run in each workdir; None for a folder that holds prepared data alone.

    Raises:
      InputError: a workdir without records or with damaged ones; a label that is not that of one setting's seeds.
    """
    runs: list[Run | None] = []
    for folder, label in zip(workdirs, labels, strict=True):
        prepared = (folder / "statistics.json").exists() and not (folder / "config.json").exists()
        runs.append(None if prepared else records.open_run(folder, label))
    for label in dict.fromkeys(labels):
        alike = [one for one, name in zip(runs, labels, strict=True) if name == label]
        kinds, numbers = {one and one.perfit for one in alike}, {one and one.config.get("seed") for one in alike}
        # Two runs of PerFIT with the same seed are found where perplexities are summed up.
        if len(alike) > 1 and kinds != {True} and (kinds != {False} or len(numbers) < len(alike)):
            raise InputError(f"two runs are called {label!r}: name them with --labels")
    for folder, one in zip(workdirs, runs, strict=True):
        if one and not (one.rounds or one.clients or one.perplexities):
            raise InputError(f"{folder}: neither metrics.jsonl nor clients.jsonl nor perplexity.jsonl holds a record")
    return runs


def figures(workdirs: Sequence[Path], labels: Sequence[str], runs: Sequence[Run | None]) -> dict[str, Figure]:
    """Every figure but those of perplexity that the records allow, by file name.

    Raises:
      InputError: damaged statistics or masks.
    """
    drawn = {}
    for folder, label in zip(workdirs, labels, strict=True):
        statistics = folder / "statistics.json"
        if statistics.exists():
            key = "heterogeneity" if "heterogeneity" not in drawn else f"heterogeneity_{file_name(label)}"
            drawn[key] = heterogeneity.divergences(records.read_divergences(statistics))
    named = [run and told_apart(run, labels) for run in runs]
    drawable = by_label(named)
    trained = [run for run in drawable if run.rounds]
    personalized = [run for run in drawable if run.clients]
    if trained:
        drawn["training_loss"] = training.loss(trained)
        drawn["training_norms"] = training.norms(trained)
    if personalized:
        partition = common(personalized, "partition")
        title = partition and f"{partition.upper()}-SNI"
        drawn["tradeoff"] = tradeoff.means(personalized, title)
        if any(line["point"] == "genie" for run in personalized for line in run.clients):
            drawn["genie"] = tradeoff.means(personalized, title, genie=True)
        drawn["percentiles"] = tradeoff.percentiles(personalized, title=title)
        for run in personalized:
            drawn[f"clients_{file_name(run.label)}"] = tradeoff.clients(run)
    for folder, run in zip(workdirs, named, strict=True):
        path = folder / "similarity.npz"
        if run and path.exists():
            distances = records.read_similarity(path)
            drawn[f"mask_similarity_{file_name(run.label)}"] = masks.similarity(distances, run.label)
    return drawn


def perplexities(settings: Sequence[perplexity.Setting]) -> dict[str, Figure]:
    """The figures of perplexity, by file name; that of single clients shows the first seed alone."""
    if not settings:
        return {}
    runs = [run for setting in settings for run in setting.runs.values()]
    drawn = {"perplexity": perplexity.curves(settings, common(runs, "split"))}
    labels = [run.label for run in runs]
    seed, baseline = next(iter(settings[0].runs.items()))
    compared = []
    for setting in settings[1:]:
        if seed in setting.runs and perplexity.same_clients(baseline, setting.runs[seed]):
            compared.append(told_apart(setting.runs[seed], labels))
        else:
            whose = f"the clients of {baseline.label}, seed {seed}"
            warnings.warn(f"{setting.label}: no run with {whose}: not in perplexity_clients", stacklevel=2)
    if compared:
        drawn["perplexity_clients"] = perplexity.clients(told_apart(baseline, labels), compared)
    return drawn


def told_apart(run: Run, labels: Sequence[str]) -> Run:
    """The run; one of PerFIT is called by its seed too where others share its label."""
    alone = labels.count(run.label) == 1 or not run.perfit
    return run if alone else replace(run, label=f"{run.label}, seed {run.config.get('seed')}")


def by_label(runs: Sequence[Run | None]) -> list[Run]:
    """One run for each label: Profit's seeds of a setting are drawn as their mean."""
    groups: dict[str, list[Run]] = {}
    for one in filter(None, runs):
        groups.setdefault(one.label, []).append(one)
    return [seeds.pool(group) if len(group) > 1 else group[0] for group in groups.values()]


def common(runs: Sequence[Run], field: str) -> str:
    """What the configs of all runs hold in a field, for a title; empty when they differ."""
    values = {str(run.config.get(field)) for run in runs}
    return values.pop() if len(values) == 1 and "None" not in values else ""


def table(rows: Sequence[perplexity.Row]) -> str:
    """The summary as aligned text; - where there is no such number."""
    head = ("setting", "seeds", "round", "perplexity", "std", "best", "difference", "95 % interval", "pairs")
    lines = [head]
    for row in rows:
        interval = "-" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f}"
        numbers = (number(row.last), number(row.std), number(row.best), number(row.difference, sign="+"))
        pairs = "-" if row.pairs is None else str(row.pairs)
        lines.append((row.label, str(row.seeds), str(row.round), *numbers, interval, pairs))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        f"{label:<{widths[0]}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for label, *cells in lines
    ]
    note = [f"differences are to {rows[0].label}, paired by seed"] if len(rows) > 1 else []
    return "\n".join(aligned + note)


def number(value: float | None, sign: str = "") -> str:
    """Three decimals, or - for None."""
    return "-" if value is None else f"{value:{sign}.3f}"


def write_csv(rows: Sequence[perplexity.Row], path: Path) -> Path:
    """Writes the summary, unrounded, over an older one; an empty field where there is no such number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(perplexity.Row._fields)
        writer.writerows(rows)
    return path


def file_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^\w.=-]+", "_", label, flags=re.ASCII).strip("_")


if __name__ == "__main__":
    run(main)
