"""Both papers' effects in under five minutes on two CPU cores, without a download: `make demo`.

The embedded model and corpus, one seed. A soft prompt is trained by FedAvg(Adam), FedAvg(SGD) and FedSGD and then
personalized, with a small and a large learning rate, with and without l2 and model averaging; PerFIT is set against
FIT. What one seed cannot tell, launch/reproduce.py with --seeds=5 can.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch._main import launch, run

OUT = flags.DEFINE_string("out", "runs/demo", "Where everything goes; what is there already is not done again.")
JOBS = flags.DEFINE_integer("jobs", 2, "Runs side by side; on a GPU each takes its memory.", lower_bound=1)
EXPERIMENTS = (
    "profit/observation1",
    "profit/observation3_hhf",
    "profit/observation4",
    "perfit/table2_r16",
)


def main(argv: Sequence[str]) -> None:
    """Reproduces the experiments, and says where to look."""
    del argv
    started, out = time.perf_counter(), Path(OUT.value)
    launch("reproduce", experiment=",".join(EXPERIMENTS), scale="tiny", seeds=1, workdir=out, jobs=JOBS.value)
    print(f"\ndone in {time.perf_counter() - started:.0f} s; the figures, as PNG and PDF:")
    for figure in sorted((out / "figures").rglob("*.png")):
        print(f"    {figure}")
    print(f"records of every run: {out}/*/*/seed0; with your model and data: docs/start.md and configs/*/small.py")


if __name__ == "__main__":
    run(main)
