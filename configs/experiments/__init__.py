"""The experiments of both papers as data: their runs, what is compared, what is drawn. launch/reproduce.py does them.

They go by the paper's names, profit/figure4; a part of one that stands alone by what it shows, profit/observation3_hhf.
An experiment names no number of a scale: its runs are names that configs/{profit,perfit}/<scale>.py turn into fields.
"""

from configs.experiments import perfit, profit, searches
from configs.experiments.types import Choice, Effect, Experiment, Figure, Run

EXPERIMENTS: dict[str, Experiment] = {
    f"{paper}/{name}": experiment
    for paper, experiments in (
        ("profit", profit.EXPERIMENTS | searches.EXPERIMENTS),
        ("perfit", perfit.EXPERIMENTS),
    )
    for name, experiment in experiments.items()
}
# Other names -> the experiments that they stand for.
ALIASES: dict[str, tuple[str, ...]] = {
    f"{paper}/{name}": tuple(f"{paper}/{each}" for each in meant)
    for paper, aliases in (("profit", profit.ALIASES), ("perfit", perfit.ALIASES))
    for name, meant in aliases.items()
}

__all__ = ["ALIASES", "EXPERIMENTS", "Choice", "Effect", "Experiment", "Figure", "Run"]
