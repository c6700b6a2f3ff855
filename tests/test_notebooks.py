"""Notebooks: each is its script, is stored without outputs, runs whole, and shows what its text says."""

import os
from pathlib import Path
from textwrap import dedent

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "launch" / "colab"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# What a notebook's results show, asked in its own names after its last cell.
SHOWN = {
    "profit_in_ten_minutes": """
        losses = [row["loss"] for row in trained.history]
        assert sum(losses[-4:]) < sum(losses[:4])
        assert small.mean()[-1]["local"] > small.mean()[0]["local"] + 0.1, "personalization gains"
        assert small.mean()[-1]["global"] > large.mean()[-1]["global"], "a small rate forgets less"
        assert l2.mean()[-1]["global"] > large.mean()[-1]["global"], "so does l2"
        assert [point["alpha"] for point in large.mean("average")] == [0.0, 0.25, 0.5, 0.75, 1.0]
    """,
    "perfit_in_ten_minutes": """
        assert (masks.owned == pf.Space.of(lora).size).all(), "each client has the parameters of FIT"
        before, after = perplexity.by_setting([fit, perfit])[1].values[0][[0, -1]]
        assert after < before
        plain, personal = perplexity.summary(perplexity.by_setting([fit, perfit]))
        assert personal.last < plain.last, "personal parameters help"
    """,
    "bring_your_own": """
        assert before < 0.1 and after > 0.5
        assert answer == backbone.generate([query + "\\n"], tuned.adapter)[0]
        assert jax.tree.all(jax.tree.map(np.array_equal, again, tuned.adapter))
        assert not encoder.counts["truncated_queries"] and not encoder.counts["truncated_targets"]
    """,
}
FIGURES = {"profit_in_ten_minutes": 3, "perfit_in_ten_minutes": 4, "bring_your_own": 1}


def test_every_script_has_a_notebook_and_every_notebook_its_laws():
    names = {path.stem for path in NOTEBOOKS}
    assert names == {path.stem for path in FOLDER.glob("*.py")} == SHOWN.keys() == FIGURES.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_without_outputs(path):
    stored, script = nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"))
    made = nbformat.reads(jupytext.writes(script, fmt="ipynb"), as_version=4)
    assert stored.metadata == made.metadata
    assert content(stored) == content(made), "make notebooks writes it again"
    assert not any(cell.outputs or cell.execution_count for cell in stored.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_whole_and_shows_what_it_says(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(dedent(SHOWN[path.stem])))
    # One device and compiled as for users: the flags of the other tests make programs slow.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    folder = tmp_path / "run"
    folder.mkdir()
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == FIGURES[path.stem]


def content(notebook: NotebookNode) -> list[tuple[str, str, NotebookNode]]:
    """All but the cells' ids, which are drawn."""
    return [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
