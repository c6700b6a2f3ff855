"""What an experiment is made of."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

TUNING_SEED = 1000  # of searches for learning rates: none of those that effects are measured with
# What a scale's config file may say of searches: names -> field -> the values that are tried. What stands at several
# names holds where all of them are a run's.
Searched = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Run:
    """One run, over seeds. Experiments that hold the same run share it."""

    launcher: str  # profit_train, profit_personalize, perfit_train
    names: str  # the argument of the scale's config file
    start: Self | None = None  # whose result it starts from, with the same seed
    fields: tuple[tuple[str, float], ...] = ()  # fields of the config that no name sets

    @property
    def name(self) -> str:
        """Its folder under the workdir."""
        fields = (f"{name}={value:g}" for name, value in self.fields)
        return f"{self.launcher}/{'-'.join((*self.names.split(','), *fields))}"


@dataclass(frozen=True)
class Effect:
    """A difference between two runs, A - B, in one measure (profit_jax/plots/measures.py)."""

    label: str
    a: Run
    b: Run
    measure: str
    paper: str = ""  # what the paper says of A, beside B: higher, lower, alike, …; nothing where it does not say
    points: tuple[str, str] = ("epoch", "epoch")  # of A and B: along epochs, along alpha of model averaging, the genie


@dataclass(frozen=True)
class Choice:
    """One of a run's settings, chosen on validation clients: the highest in the first measure.

    With a second measure: of the settings within 5 % of the highest, the one that is highest there.
    """

    line: str  # where it stands in the paper's table
    column: str
    run: Run
    rates: Mapping[str, Sequence[float]]  # field -> the values that are tried, each with each of the other fields'
    measures: tuple[str, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """A run for each setting, the last field fastest."""
        grid = itertools.product(*self.rates.values())
        return tuple(replace(self.run, fields=tuple(zip(self.rates, point, strict=True))) for point in grid)

    def at(self, searched: Searched) -> Self:
        """The choice among the rates of a scale; where the scale names none, among its own."""
        named = [fields for names, fields in searched.items() if {*names.split(",")} <= {*self.run.names.split(",")}]
        rates = {field: rates for fields in named for field, rates in fields.items() if field in self.rates}
        return replace(self, rates={**self.rates, **rates})


@dataclass(frozen=True)
class Figure:
    """What is drawn or tabulated, in panels side by side.

    Titles, legends and the labels of effects may name fields of the run's config in braces, as in "rate
    {personalize.optimizer.learning_rate:.2g}": what they hold is the scale's own.
    """

    kinds: tuple[str, ...]  # as launch/plot.py calls them
    panels: Mapping[str, Mapping[str, Run]] = field(default_factory=dict)  # name -> legend -> run; none: of the data
    titles: str = ""  # of the panels; their names without


@dataclass(frozen=True)
class Experiment:
    """What is run, compared and drawn for one figure, table or claim."""

    title: str
    claim: str  # what the paper says, and where
    effects: tuple[Effect, ...] = ()
    choices: tuple[Choice, ...] = ()
    figure: Figure | None = None
    own_seeds: tuple[int, ...] = ()  # whatever number of seeds is asked for
    within: str = ""  # the experiment that holds all of this one's runs; "all" leaves this one out
    by_name: bool = False  # done by its name alone; "all" leaves it out

    def seeds(self, count: int) -> tuple[int, ...]:
        """The seeds that it is run with where effects are wanted over so many."""
        return self.own_seeds or tuple(range(count))

    @property
    def in_all(self) -> bool:
        """Whether "all" stands for it too."""
        return not (self.within or self.by_name)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run once, what a run starts from before it."""
        named = [run for effect in self.effects for run in (effect.a, effect.b)]
        named += [run for panel in self.panels.values() for run in panel.values()]
        named += [run for choice in self.choices for run in choice.runs]
        return tuple(dict.fromkeys(each for run in named for each in (run.start, run) if each))

    @property
    def panels(self) -> Mapping[str, Mapping[str, Run]]:
        """Those of its figure."""
        return self.figure.panels if self.figure else {}

    @property
    def titles(self) -> str:
        """Of its figure's panels; their names without."""
        return self.figure.titles if self.figure else ""

    @property
    def of_data(self) -> bool:
        """Whether it shows Profit's prepared data, and needs no run."""
        return self.figure is not None and not self.panels


def against(
    label: str, a: Run, b: Run, points: tuple[str, str] = ("epoch", "epoch"), **paper: str
) -> tuple[Effect, ...]:
    """The effects of A against B in several measures: measure = what the paper says."""
    return tuple(Effect(label, a, b, measure, says, points) for measure, says in paper.items())
