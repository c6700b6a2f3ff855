"""Writes one HTML page about the experiments that launch/reproduce.py has done, to open in any browser.

    python -m launch.report --workdir=runs/effects
    python -m launch.report --workdir=runs/effects --out=effects.html

Each experiment stands with what the paper claims and what was found: effects with intervals in tables that can be
sorted, the curve of every client with its numbers under the pointer, the figures, and how the runs were configured.
Runs and figures that failed or are missing are named. The page needs nothing but itself: no network, no other file.

Needs the extra `report`: pip install 'profit-jax[report]'.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from launch._main import run
from profit_jax.errors import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "The --workdir of launch/reproduce.py.", required=True)
OUT = flags.DEFINE_string("out", None, "The HTML file; without it report.html in the workdir.")


def main(argv: Sequence[str]) -> None:
    """Reads the workdir and writes the page."""
    del argv
    from launch import _page, _report  # whose InputError says what to install

    workdir = Path(WORKDIR.value)
    out = Path(OUT.value) if OUT.value else workdir / "report.html"
    text = _page.render(_report.page(workdir))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out={out}: {error.strerror}") from error
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
