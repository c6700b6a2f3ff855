"""What the page of a workdir shows: effects beside claims, curves, figures, configurations."""

import csv
import inspect
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.experiments import EXPERIMENTS, Run
from launch import _provenance, _summary
from launch._found import Found, Problem, open_workdir
from launch._page import Cell, Curves, Page, Picture, Section, Spread, Table, number, picture
from launch._summary import Row
from profit_jax.errors import InputError
from profit_jax.files import read_text
from profit_jax.plots import effects, interactive, labels, measures, style

OUTCOMES = ("as the paper says", "otherwise", "not told apart", "no interval")
# What launch/plot.py draws, by the beginning of a figure's name, in the order of the page.
CAPTIONS = {
    "tradeoff": "Mean local against mean global score along the epochs of personalization. A ring is the start, a "
    "large marker the last epoch; dashed is model averaging, thin each seed.",
    "perplexity": "Personalized perplexity by round, mean over clients; with several seeds the band holds them all.",
    "perplexity_clients": "Each client's last perplexity against the baseline's: under the diagonal is better.",
    "training_norms": "Frobenius norms in training, by round.",
    "training_loss": "Training loss by round and, where recorded, the global validation score.",
    "genie": "The trade-off with the genie.",
    "percentiles": "Percentiles over clients of local and of global scores, along the epochs.",
    "clients": "Each client before and after personalization.",
    "mask_similarity": "Hamming distances between clients' masks.",
    "heterogeneity": "Mean over training clients of the divergence of a client's metadata from those of all.",
}
TABLES = {
    _summary.CHOSEN: "Learning rates chosen, the server's before the client's.",
    "statistics": "What a training client holds, mean and standard deviation over clients.",
    "perplexity": "Personalized perplexity, mean over clients and then over seeds; differences are to a panel's first "
    "setting, paired by seed, with a 95 % t interval.",
}
KINDS = {"epoch": interactive.PERSONALIZATION, "round": interactive.PERPLEXITY}


def page(workdir: Path) -> Page:
    """Reads a workdir.

    Raises:
      InputError: it is none that launch/reproduce.py has filled.
    """
    found = open_workdir(workdir)
    shown = [(run, found.seeds(name)) for name in found.experiments for run in found.experiment(name).runs]
    data = numbers(found, shown)
    sections = [section(found, name, data) for name in found.experiments]
    unknown = sorted({row["experiment"] for row in found.rows} - EXPERIMENTS.keys())
    problems = [Problem(name, "left out: configs/experiments has no such experiment") for name in unknown]
    return Page(
        title=f"Effects in {workdir.resolve().name}",
        made=f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}",
        commands=_provenance.commands(found.rows),
        overview=overview(found, sections),
        sections=sections,
        settings=_provenance.settings({run: found.read(run, seeds) for run, seeds in shown}),
        environments=_provenance.environments(found.environments),
        measures=(inspect.getdoc(measures) or "").partition("\n\n")[2],
        problems=[*problems, *dict.fromkeys(problem for each in sections for problem in each.problems)],
        data=data,
    )


def numbers(found: Found, shown: Iterable[tuple[Run, Sequence[int]]]) -> dict[str, Any]:
    """What the curves of runs with their seeds are drawn from, by `of_seeds`; experiments share what is the same."""
    data = {}
    for run, seeds in dict.fromkeys((run, tuple(seeds)) for run, seeds in shown):
        read = found.read(run, seeds)
        if any(one.clients or one.perplexities for one in read):
            try:
                data[of_seeds(run, seeds)] = interactive.data(read)
            except InputError as error:
                found.note(run, found.problem(run.name, error))
    return data


def of_seeds(run: Run, seeds: Sequence[int]) -> str:
    """The name of a run with its seeds."""
    return f"{run.name}/seed{'+'.join(map(str, seeds))}"


def section(found: Found, name: str, data: Mapping[str, Any]) -> Section:
    """An experiment's part of the page."""
    experiment, rows = found.experiment(name), found.of(name)
    damaged = [problem for run in experiment.runs for problem in found.problems.get(run, ())]
    problems, pictures, tables = [*found.missing(name), *damaged], [], []
    folder = found.workdir / "figures" / name
    if rows:
        tables = choices(rows) if experiment.choices else [differences(rows, len(found.seeds(name)))]
    written: list[Table] = []
    found_there: list[tuple[list[Any], Callable[[Path], Any], Path]] = [
        *((pictures, illustration, file) for file in sorted(folder.glob("*.png"), key=place)),
        *((written, tabulated, file) for file in sorted(folder.glob("*.csv"))),
    ]
    for shown, read, file in found_there:
        try:
            shown.append(read(file))
        except InputError as error:
            problems.append(found.problem(found.short(file), error))
    tables = [*written, *tables] if experiment.choices else [*tables, *written]
    return Section(
        anchor=anchor(name),
        name=name,
        title=experiment.title,
        claim=experiment.claim,
        measured=measured(rows),
        command=rows[0]["command"] if rows else "",
        tables=tables,
        curves=list(curves(found, name, data)),
        pictures=pictures,
        problems=problems,
    )


def anchor(name: str) -> str:
    """An experiment's place in the page."""
    return name.replace("/", "-")


def curves(found: Found, name: str, data: Mapping[str, Any]) -> Iterator[Curves]:
    """Charts for each panel of those runs that have recorded clients, in the colours of the figure."""
    experiment, seeds = found.experiment(name), found.seeds(name)
    legends = dict.fromkeys(legend for labelled in experiment.panels.values() for legend in labelled)
    order = {legend: index for index, legend in enumerate(legends)}
    for panel, labelled in experiment.panels.items():
        drawn = {legend: of_seeds(run, seeds) for legend, run in labelled.items() if of_seeds(run, seeds) in data}
        configs = {legend: found.read(labelled[legend], seeds)[0].config for legend in drawn}
        for along, kind in KINDS.items():
            shown = {legend: run for legend, run in drawn.items() if data[run]["along"] == along}
            if shown:
                label = {legend: labels.filled(legend, configs[legend]) for legend in shown}
                title = labels.filled(experiment.titles or panel, next(iter(configs.values())))
                clients = sum(len(data[run]["clients"]) for run in shown.values())
                places = {label[legend]: order[legend] for legend in shown}
                yield Curves(
                    title,
                    interactive.panels(places, kind, clients),
                    {label[legend]: run for legend, run in shown.items()},
                    {name: style.colour(index) for name, index in places.items()},
                )


def place(file: Path) -> tuple[int, str]:
    """The order of figures."""
    return [*CAPTIONS, kind(file)].index(kind(file)), file.name


def kind(file: Path) -> str:
    """What a figure shows, as CAPTIONS calls it; else its name."""
    return max((known for known in CAPTIONS if file.stem.startswith(known)), key=len, default=file.stem)


def illustration(file: Path) -> Picture:
    """A figure with its caption, which tells whose it is where the file's name does."""
    whose = file.stem.removeprefix(kind(file)).strip("_").replace("_", " ")
    caption = CAPTIONS.get(kind(file), "")
    return picture(file, f"{whose}. {caption}" if whose else caption)


def tabulated(file: Path) -> Table:
    """A table that launch/plot.py has written."""
    text = read_text(file)
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""))
    except (csv.Error, ValueError) as error:
        raise InputError(f"{file}: no table that can be read ({error})") from None
    return Table(TABLES.get(file.stem, ""), head, [[cell(text) for text in row] for row in rows])


def cell(text: str) -> Cell:
    """A text as a number where it is one."""
    try:
        return number(float(text))
    except ValueError:
        return Cell(text or "-")


def measured(rows: Sequence[Row]) -> str:
    """What an experiment found, in a sentence."""
    stands = tally(rows)
    words = ", ".join(f"{count} {outcome}" for outcome, count in stands.items() if count)
    words = words.replace("no interval", "without an interval")
    return f"Of the effects on which the paper has a say: {words}." if words else ""


def tally(rows: Iterable[Row]) -> Counter[str]:
    """How the effects on which the paper has a say came out."""
    stands = Counter(dict.fromkeys(OUTCOMES, 0))
    stands.update(effects.agreement(row["paper"], row["found"]) for row in rows if row.get("paper"))
    return stands


def overview(found: Found, sections: Sequence[Section]) -> Table:
    """A line an experiment."""
    rows = []
    for each in sections:
        stands = tally(found.of(each.name))
        rows.append(
            (
                Cell(each.title, link=each.anchor),
                number(len(found.seeds(each.name)) or None),
                *(number(stands[outcome]) for outcome in OUTCOMES),
                Cell(str(len(each.problems)), len(each.problems), "number bad" if each.problems else "number"),
                Cell(each.name),
            )
        )
    return Table("Experiments", ("experiment", "seeds", *OUTCOMES, "missing", "name"), rows)


def differences(rows: Sequence[Row], seeds: int) -> Table:
    """An experiment's effects."""
    head = ("A, B", "measure", "A", "B", "A - B", "95 % interval", "seeds", "the paper: A is", "found: A is")
    caption = "Effects. Under an interval: the interval as a line, each seed's A - B as a dot, zero as a bar."
    return Table(caption, head, [difference(row, seeds) for row in rows])


def difference(row: Row, seeds: int) -> tuple[Cell, ...]:
    """A line of effects."""
    given, low, high = (row["difference"][name] for name in ("mean", "low", "high"))
    outcome = effects.agreement(row["paper"], row["found"])
    each = [a - b for a, b in zip(row["a"]["values"], row["b"]["values"], strict=True)]
    spread = Spread(each, low, high) if len(each) > 1 else None
    of = "" if len(row["seeds"]) == seeds else f" of {seeds}"
    return (
        Cell(row["label"]),
        Cell(row["measure"]),
        number(row["a"]["mean"]),
        number(row["b"]["mean"]),
        number(given, "+"),
        Cell("-" if low is None else f"{low:+.3g} to {high:+.3g}", low, "number", spread=spread),
        Cell(f"{len(row['seeds'])}{of}", len(row["seeds"]), "number bad" if of else "number"),
        Cell(row["paper"] or "-"),
        Cell(row["found"], kind=f"found {outcome.replace(' ', '-')}"),
    )


def choices(rows: Sequence[Row]) -> list[Table]:
    """For each choice the runs that are chosen among."""
    return [among(group) for group in _summary.by_choice(rows)]


def among(rows: Sequence[Row]) -> Table:
    """The runs of one choice."""
    head = (*rows[0]["fields"], *rows[0]["values"], "chosen")
    lines = [
        (
            *map(number, (*row["fields"].values(), *row["values"].values())),
            Cell("best" if row["best"] else "", kind="as-the-paper-says" if row["best"] else ""),
        )
        for row in rows
    ]
    return Table(f"Runs to choose among: {rows[0]['line']}, {rows[0]['column']}", head, lines)
