"""What is drawn and tabulated of the records of workdirs, by kind; in panels side by side."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from launch._tables import Table
from profit_jax.errors import InputError
from profit_jax.plots import heterogeneity, labels, masks, perplexity, records, seeds, tradeoff, training
from profit_jax.plots.records import Run, Similarity

KINDS = (
    "heterogeneity",
    "statistics",
    "training_loss",
    "training_norms",
    "tradeoff",
    "genie",
    "percentiles",
    "clients",
    "mask_similarity",
    "perplexity",
    "perplexity_clients",
)


class Source(NamedTuple):
    """A run and where it lies."""

    folder: Path
    run: Run


@dataclass
class Drawn:
    """Figures and tables of the kinds that are wanted, by file name."""

    wanted: Sequence[str] = KINDS
    figures: dict[str, Figure] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    @property
    def lacking(self) -> list[str]:
        """The kinds that are wanted and that the records do not allow."""
        names = (*self.figures, *self.tables)
        made = {max((kind for kind in KINDS if name.startswith(kind)), key=len) for name in names}
        return [kind for kind in self.wanted if kind not in made]

    def of_data(self, folder: Path, suffix: str = "") -> None:
        """Profit's Figure 6 and Table 1, of prepared data.

        Raises:
          InputError: damaged statistics.
        """
        file = folder / "statistics.json"
        if "heterogeneity" in self.wanted:
            self.figures[f"heterogeneity{suffix}"] = heterogeneity.divergences(records.read_divergences(file))
        if "statistics" in self.wanted:
            statistics = records.read_statistics(file)
            rows = [(f"{partition.upper()}-SNI", *row.values()) for partition, row in statistics.items()]
            self.tables[f"statistics{suffix}"] = [("partition", *records.STATISTICS), *rows]

    def of_training(self, panels: Mapping[str, Sequence[Source]]) -> None:
        """What is recorded by round; the runs of all panels share a figure."""
        runs = [
            replace(one, label=f"{title}: {one.label}") if len(panels) > 1 else one
            for title, sources in panels.items()
            for one in over_seeds(sources)
            if one.rounds
        ]
        for kind, figure in (("training_loss", training.loss), ("training_norms", training.norms)):
            if runs and kind in self.wanted:
                self.figures[kind] = figure(runs)

    def of_personalization(self, panels: Mapping[str, Sequence[Source]]) -> None:
        """Local and global scores."""
        shown = {}
        for title, sources in panels.items():
            if runs := [one for one in over_seeds(sources) if one.clients]:
                partition = common(runs, "partition").upper()
                shown[title or (partition and f"{partition}-SNI")] = runs
        runs = [one for panel in shown.values() for one in panel]
        if runs and "tradeoff" in self.wanted:
            self.figures["tradeoff"] = tradeoff.means(shown)
        if "genie" in self.wanted and any(line["point"] == "genie" for one in runs for line in one.clients):
            self.figures["genie"] = tradeoff.means(shown, genie=True)
        if runs and "percentiles" in self.wanted:
            self.figures["percentiles"] = tradeoff.percentiles(shown)
        for title, panel in shown.items() if "clients" in self.wanted else ():
            for one in panel:
                name = f"{title} {one.label}" if len(shown) > 1 else one.label
                self.figures[f"clients_{file_name(name)}"] = tradeoff.clients(one)

    def of_masks(self, panels: Mapping[str, Sequence[Source]]) -> None:
        """How alike masks are, of each setting's first seed.

        Raises:
          InputError: damaged masks.
        """
        shown: dict[str, Similarity] = {}
        for title, sources in panels.items() if "mask_similarity" in self.wanted else ():
            for label, group in by_label(sources).items():
                found = [source for source in group if (source.folder / "similarity.npz").exists()]
                if found:
                    name = told_apart(found[0].run, group).label if len(group) > 1 else label
                    distances = records.read_similarity(found[0].folder / "similarity.npz")
                    shown[", ".join(filter(None, (title, name)))] = distances
        if shown:
            self.figures["mask_similarity"] = masks.similarity(shown)

    def of_perplexity(self, panels: Mapping[str, Sequence[Source]]) -> None:
        """Curves with their table, and single clients, of the first seed."""
        measured = {}
        for title, sources in panels.items():
            if runs := [source.run for source in sources if source.run.perplexities]:
                measured[title or common(runs, "split")] = perplexity.by_setting(runs)
        if measured and "perplexity" in self.wanted:
            self.figures["perplexity"] = perplexity.curves(measured)
            rows = [(title, *row) for title, settings in measured.items() for row in perplexity.summary(settings)]
            self.tables["perplexity"] = [("panel", *perplexity.Row._fields), *rows]
        if "perplexity_clients" in self.wanted:
            compared = {title: of_first_seed(settings) for title, settings in measured.items()}
            if compared := {title: runs for title, runs in compared.items() if len(runs) > 1}:
                self.figures["perplexity_clients"] = perplexity.clients(compared)


def draw(
    workdirs: Sequence[Path],
    legends: Sequence[str],
    titles: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
) -> Drawn:
    """Every figure and table that the records allow, or those of some kinds.

    Args:
      workdirs: folders with records or with prepared data.
      legends: the name of each in legends, which may name fields of its config in braces.
      titles: the title of each one's panel, likewise.
      kinds: some of `KINDS`.

    Raises:
      InputError: no records, or damaged ones.
    """
    for flag, given in (("labels", legends), ("panels", titles or workdirs)):
        if len(given) != len(workdirs):
            raise InputError(f"--{flag}: {len(given)} {flag} for {len(workdirs)} workdirs")
    drawn = Drawn(kinds or KINDS)
    prepared = [folder for folder in workdirs if is_prepared(folder)]
    for folder in prepared:
        drawn.of_data(folder, "" if folder == prepared[0] else f"_{file_name(legends[workdirs.index(folder)])}")
    panels: dict[str, list[Source]] = {}
    for folder, legend, title in zip(workdirs, legends, titles or [""] * len(workdirs), strict=True):
        if folder not in prepared:
            one = open_run(folder, legend)
            panels.setdefault(labels.filled(title, one.config), []).append(Source(folder, one))
    for sources in panels.values():
        check_seeds(sources)
    drawn.of_training(panels)
    drawn.of_personalization(panels)
    drawn.of_masks(panels)
    drawn.of_perplexity(panels)
    return drawn


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds prepared data alone."""
    return (folder / "statistics.json").exists() and not (folder / "config.json").exists()


def open_run(folder: Path, legend: str) -> Run:
    """The run in a workdir, under its name in legends.

    Raises:
      InputError: a workdir without records or with damaged ones.
    """
    one = records.open_run(folder, legend)
    if not (one.rounds or one.clients or one.perplexities):
        raise InputError(f"{folder}: neither metrics.jsonl nor clients.jsonl nor perplexity.jsonl holds a record")
    return replace(one, label=labels.filled(legend, one.config))


def check_seeds(sources: Sequence[Source]) -> None:
    """Raises InputError where a panel's label is not that of one setting's seeds."""
    for label, group in by_label(sources).items():
        kinds = {source.run.perfit for source in group}
        numbers = {source.run.config.get("seed") for source in group}
        # Two runs of PerFIT with the same seed are found where perplexities are summed up.
        if len(group) > 1 and kinds != {True} and (kinds != {False} or len(numbers) < len(group)):
            raise InputError(f"two runs are called {label!r}: name them with --labels")


def by_label(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """The runs of each label, in the order in which labels first appear."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.run.label, []).append(source)
    return groups


def over_seeds(sources: Sequence[Source]) -> list[Run]:
    """One run for each label: Profit's seeds of a setting are drawn as their mean, PerFIT's each by itself."""
    runs: list[Run] = []
    for group in by_label(sources).values():
        each = [source.run for source in group]
        if len(each) > 1 and not each[0].perfit:
            runs.append(seeds.pool(each))
        else:
            runs += [told_apart(one, group) for one in each]
    return runs


def told_apart(run: Run, group: Sequence[Source]) -> Run:
    """The run, called by its seed too where others share its label."""
    return replace(run, label=f"{run.label}, seed {run.config.get('seed')}") if len(group) > 1 else run


def of_first_seed(settings: Sequence[perplexity.Setting]) -> list[Run]:
    """The first setting's first seed, and that of the others where they have measured the same clients."""
    seed, baseline = next(iter(settings[0].runs.items()))
    compared = [settings[0]]
    for setting in settings[1:]:
        if seed in setting.runs and perplexity.same_clients(baseline, setting.runs[seed]):
            compared.append(setting)
        else:
            whose = f"the clients of {baseline.label}, seed {seed}"
            warnings.warn(f"{setting.label}: no run with {whose}: not in perplexity_clients", stacklevel=2)
    return [
        replace(one.runs[seed], label=f"{one.label}, seed {seed}") if len(one.runs) > 1 else one.runs[seed]
        for one in compared
    ]


def common(runs: Sequence[Run], name: str) -> str:
    """What the configs of all runs hold in a field, for a title; empty when they differ."""
    values = {str(run.config.get(name)) for run in runs}
    return values.pop() if len(values) == 1 and "None" not in values else ""


def file_name(label: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^\w.=-]+", "_", label, flags=re.ASCII).strip("_")
