"""What an experiment is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

TUNING_SEED = 1000  # of searches for learning rates: none of those that effects are measured with


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
    points: tuple[str, str] = ("epoch", "epoch")  # of A and B: along epochs, or along alpha of model averaging


@dataclass(frozen=True)
class Choice:
    """One of several runs, chosen on validation clients: the highest in the first measure.

    With a second measure: of the runs within 5 % of the highest, the one that is highest there.
    """

    runs: tuple[Run, ...]
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """What is run, compared and drawn for one claim."""

    title: str
    claim: str  # what the paper says, and where
    effects: tuple[Effect, ...] = ()
    choice: Choice | None = None
    figures: Mapping[str, Mapping[str, Run]] = field(default_factory=dict)  # folder -> legend -> run

    def seeds(self, count: int) -> range:
        """The seeds that it is run with where effects are wanted over so many."""
        return range(TUNING_SEED, TUNING_SEED + 1) if self.choice else range(count)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run once, what a run starts from before it."""
        named = [run for effect in self.effects for run in (effect.a, effect.b)]
        named += [run for figure in self.figures.values() for run in figure.values()]
        named += self.choice.runs if self.choice else ()
        return tuple(dict.fromkeys(each for run in named for each in (run.start, run) if each))


def against(
    label: str, a: Run, b: Run, points: tuple[str, str] = ("epoch", "epoch"), **paper: str
) -> tuple[Effect, ...]:
    """The effects of A against B in several measures: measure = what the paper says."""
    return tuple(Effect(label, a, b, measure, says, points) for measure, says in paper.items())
