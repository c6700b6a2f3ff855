"""Draws whatever the records of some workdirs allow, as PNG and PDF, and writes their tables as CSV.

    python -m launch.plot --workdir=runs/adam,runs/sgd --labels="FedAvg(Adam),FedAvg(SGD)" --out=figures
    python -m launch.plot --workdir=runs/hhf,runs/lhf --labels=FedAvg,FedAvg --panels=HHF-SNI,LHF-SNI --kinds=tradeoff

A workdir of stage 1 gives `training_loss` and `training_norms`, one of stage 2 `tradeoff`, `genie`, `percentiles` and
`clients_<label>`, a folder with prepared data `heterogeneity` and the table `statistics`; runs of one stage share a
figure.

A workdir of PerFIT, FIT or local training gives `training_loss` and `training_norms` too, `perplexity`, a figure and a
table, `perplexity_clients` (from two labels on) and `mask_similarity`; the first label is what the others are compared
with.

Runs that share a panel and a label are seeds of one setting: figures show their mean, and each seed thin or a band that
holds all; those of single clients' perplexities and of masks show the first seed.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch._drawn import KINDS, draw
from launch._main import run
from launch._tables import Table, write_csv
from profit_jax.errors import InputError
from profit_jax.plots import labels, style

WORKDIR = flags.DEFINE_list("workdir", None, "Folders with records, separated by commas.", required=True)
OUT = flags.DEFINE_string("out", None, "Where figures go; without it `figures` in the first workdir.")
LABELS = flags.DEFINE_list(
    "labels",
    None,
    "The runs' names in legends, one a workdir; without them runs of PerFIT are called by setting, others by folder. "
    "{field} stands for what the run's config holds there.",
)
PANELS = flags.DEFINE_list("panels", None, "The title of each workdir's panel; panels stand side by side.")
WANTED = flags.DEFINE_list("kinds", None, f"What is drawn, of {', '.join(KINDS)}; without it all that is possible.")
flags.register_validator("kinds", lambda kinds: {*(kinds or ())} <= {*KINDS}, f"give some of {', '.join(KINDS)}")


def main(argv: Sequence[str]) -> None:
    """Draws, and prints the files written and the tables."""
    del argv
    workdirs = [Path(folder) for folder in WORKDIR.value]
    drawn = draw(workdirs, LABELS.value or labels.of(workdirs), PANELS.value, WANTED.value)
    out = Path(OUT.value) if OUT.value else workdirs[0] / "figures"
    for name, figure in drawn.figures.items():
        for path in style.save(figure, out / name):
            print(path)
    for name, table in drawn.tables.items():
        print(write_csv(table, out / f"{name}.csv"))
        print(aligned(table))
    if WANTED.value and drawn.lacking:
        raise InputError(f"no workdir has what it takes to draw {', '.join(drawn.lacking)}")


def aligned(table: Table) -> str:
    """A table to be read: three decimals, - where there is no such number."""
    lines = [[cell_text(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{first:<{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in lines
    )


def cell_text(cell: object) -> str:
    """A cell in three decimals."""
    return "-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)


if __name__ == "__main__":
    run(main)
