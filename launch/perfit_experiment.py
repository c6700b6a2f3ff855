"""Runs every run of one of PerFIT's tables or figures, over several seeds, and draws them together.

    python launch/perfit_experiment.py --experiment=table2 --config=configs/perfit/small.py --model=MODEL \
        --data=dolly:FILE --out=runs/table2 --seeds=3 --set=rounds=20

configs/perfit/experiments.py lists the runs. Each goes to its own folder under --out; runs that are there already are
not done again, so a stopped experiment goes on where it was.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from configs.perfit.experiments import EXPERIMENTS
from launch._main import launch, run

EXPERIMENT = flags.DEFINE_enum("experiment", None, sorted(EXPERIMENTS), "The table or figure.", required=True)
CONFIG = flags.DEFINE_string("config", "configs/perfit/small.py", "The config file that the runs set names of.")
MODEL = flags.DEFINE_string("model", None, "A Hugging Face folder.", required=True)
DATA = flags.DEFINE_string("data", None, "Where the data are, if not on the hub: name:FILE.")
OUT = flags.DEFINE_string("out", None, "Where the runs and figures go.", required=True)
SEEDS = flags.DEFINE_integer("seeds", 1, "Runs of each setting, with seeds 0, 1, ….", lower_bound=1)
SET = flags.DEFINE_multi_string("set", [], "field=value of the config, for all runs.")


def main(argv: Sequence[str]) -> None:
    """Trains and draws."""
    del argv
    out, by_setting = Path(OUT.value), {}
    for names, seed in itertools.product(EXPERIMENTS[EXPERIMENT.value], range(SEEDS.value)):
        data, split, _ = names.split(",", 2)
        workdir = out / f"{names.replace(',', '-')}-seed{seed}"
        fields = {"config.model": MODEL.value, "config.seed": seed}
        fields |= {f"config.{field}": value for field, _, value in (one.partition("=") for one in SET.value)}
        if DATA.value and DATA.value.startswith(f"{data}:"):
            fields["config.data"] = DATA.value
        launch("perfit_train", config=f"{CONFIG.value}:{names}", **fields, workdir=workdir)
        by_setting.setdefault(f"{data}-{split}", []).append(str(workdir))
    for name, workdirs in by_setting.items():
        launch("plot", workdir=",".join(workdirs), out=out / "figures" / name)


if __name__ == "__main__":
    run(main)
