"""The experiments of both papers as data: their runs, what is compared, what is drawn. launch/reproduce.py does them.

An experiment names no number of a scale: its runs are names that configs/{profit,perfit}/<scale>.py turn into fields.
"""

from configs.experiments import perfit, profit
from configs.experiments.types import Choice, Effect, Experiment, Run

EXPERIMENTS: dict[str, Experiment] = {
    f"{paper}/{name}": experiment
    for paper, experiments in (("profit", profit.EXPERIMENTS), ("perfit", perfit.EXPERIMENTS))
    for name, experiment in experiments.items()
}

__all__ = ["EXPERIMENTS", "Choice", "Effect", "Experiment", "Run"]
