"""The page of a workdir: everything that was found is in it, nothing is fetched for it, what is missing is named."""

import importlib
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from configs.experiments import EXPERIMENTS, Run
from configs.experiments.types import TUNING_SEED
from launch import _page, _provenance, _report, _runs, _summary
from profit_jax.errors import InputError
from profit_jax.plots import effects
from tests.plots.fakes import client_line, round_line, write_perfit, write_run

ROOT = Path(__file__).parents[1]
PROFIT, PERFIT = "profit/observation3_hhf", "perfit/table2_pathological"
TUNING, FIGURE, DATA = "profit/tuning_fed_sgd_hhf", "perfit/figure7", "profit/table1"
SGD = "profit_personalize/hhf-fed_avg_sgd-high/seed0+1"
FAILED = "profit_personalize/hhf-fed_sgd-high/seed1"
DAMAGED = "perfit_train/dolly-pathological-perfit-r16/seed0"
VOID = {"br", "img", "input", "link", "meta"}


class Read(HTMLParser):
    """A page as read back: its tables, links, scripts, and the tags that were not closed in turn."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.unbalanced, self.addresses, self.ids = [], [], [], []
        self.tables, self.numbers, self.charts, self.text = [], {}, [], ""
        self.script = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [(tag, given[name]) for name in ("src", "href") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(given | {"text": ""})
        elif tag == "script":
            self.script = given

    def handle_startendtag(self, tag, attributes):
        """SVG's shapes."""

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if "script" in self.open:
            if self.script.get("class") == "numbers":
                assert self.script["data-run"] not in self.numbers, "a run's numbers stand in the page once"
                self.numbers[self.script["data-run"]] = json.loads(data)
            elif self.script.get("class") == "charts":
                self.charts.append(json.loads(data))
        elif "style" not in self.open:
            self.text += data
            if {"td", "th"} & {*self.open}:
                self.tables[-1][-1][-1]["text"] += data.strip()

    def rows(self, *head: str) -> list[dict[str, dict]]:
        """The rows of all tables whose head begins so, by column."""
        tables = [table for table in self.tables if [cell["text"] for cell in table[0]][: len(head)] == [*head]]
        return [dict(zip([cell["text"] for cell in table[0]], row)) for table in tables for row in table[1:]]


def fill(folder: Path, run: Run, seed: int) -> None:
    """A run that has been done, two clients each."""
    base = 0.1 * seed
    if run.launcher == "perfit_train":
        write_perfit(folder, [[8.0, 16.0], [4.0 + seed, 2.0]], seed=seed, method=run.names.split(",")[2])
    elif run.launcher == "profit_train":
        write_run(folder, rounds=[round_line(1, validation_score=0.5)])
    else:
        lines = [client_line(client, epoch, base + 0.05 * epoch, 0.4) for client in (0, 1) for epoch in (0, 4)]
        write_run(folder, clients=lines)
    config = {"data": "tiny", "split": "pathological"} | json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"seed": seed, "names": run.names}))
    (folder / _runs.DONE).write_text("{}")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """Five experiments over two seeds; a run has failed, a figure is no image, a record is damaged after the fact."""
    folder = tmp_path_factory.mktemp("effects")
    done, rows = set(), []
    for name in (PROFIT, PERFIT, TUNING):
        for run in EXPERIMENTS[name].runs:
            for seed in EXPERIMENTS[name].seeds(2):
                at = _runs.folder(run, seed)
                if at != FAILED and at not in done:
                    fill(folder / at, run, seed)
                    done.add(at)
    for name in (PROFIT, PERFIT, TUNING):
        command = f"python -m launch.reproduce --experiment={name} --workdir=w --seeds=2"
        rows += _summary.rows(name, EXPERIMENTS[name], folder, EXPERIMENTS[name].seeds(2), done, command)
    _summary.write(folder, rows)
    (folder / "logs").mkdir()
    (folder / "logs" / f"{FAILED.replace('/', '-')}.log").write_text("$ python …\nerror: no <luck>\n")
    (folder / DAMAGED / "perplexity.jsonl").write_text("spoilt\n{}\n")
    for name in (PROFIT, FIGURE, DATA):
        (folder / "figures" / name).mkdir(parents=True)
    Image.new("RGB", (4, 3)).save(folder / "figures" / PROFIT / "tradeoff.png")
    (folder / "figures" / PROFIT / "genie.png").write_text("no image")
    (folder / "figures" / DATA / "statistics.csv").write_text("partition,clients,tasks\nHHF-SNI,7,1.25\n")
    return folder


@pytest.fixture(scope="module")
def html(workdir) -> str:
    return _page.render(_report.page(workdir))


@pytest.fixture(scope="module")
def read(html) -> Read:
    return Read(html)


def test_every_effect_is_in_the_page_with_its_numbers(workdir, read):
    rows = [row for row in _summary.read(workdir) if "label" in row]
    shown = read.rows("A, B")
    assert len(shown) == len(rows) == 10
    for row, cells in zip(rows, shown, strict=True):
        assert [cells[name]["text"] for name in ("A, B", "measure", "the paper: A is", "found: A is")] == [
            row["label"],
            row["measure"],
            row["paper"] or "-",
            row["found"],
        ]
        for column, wanted in (("A", row["a"]), ("B", row["b"]), ("A - B", row["difference"])):
            assert float(cells[column]["text"]) == pytest.approx(wanted["mean"], rel=1e-3, abs=1e-9)
            assert float(cells[column]["data-key"]) == pytest.approx(wanted["mean"], rel=1e-5, abs=1e-9)


def test_an_effect_that_lacks_a_seed_says_so(read):
    seeds = {cells["A, B"]["text"]: cells["seeds"] for cells in read.rows("A, B")}
    assert seeds["FedAvg(Adam), FedAvg(SGD)"]["text"] == "2"
    assert seeds["FedAvg(Adam), FedSGD"]["text"] == "1 of 2" and "bad" in seeds["FedAvg(Adam), FedSGD"]["class"]


def test_of_runs_to_choose_among_the_best_is_marked(workdir, read):
    chosen = [cells["chosen"]["text"] for cells in read.rows("server_optimizer.learning_rate")]
    assert chosen == ["best" if row["best"] else "" for row in _summary.read(workdir) if "best" in row]


def test_a_table_that_needs_no_run_is_in_the_page(read):
    (row,) = read.rows("partition", "clients")
    assert {name: cell["text"] for name, cell in row.items()} == {
        "partition": "HHF-SNI",
        "clients": "7",
        "tasks": "1.25",
    }
    assert row["tasks"]["data-key"] == "1.25"


def test_of_several_searches_the_papers_table_comes_first(tmp_path):
    name, first = "profit/table2", EXPERIMENTS["profit/table2"].choices[0].runs[0]
    fill(tmp_path / _runs.folder(first, TUNING_SEED), first, TUNING_SEED)
    done = {_runs.folder(first, TUNING_SEED)}
    _summary.write(tmp_path, _summary.rows(name, EXPERIMENTS[name], tmp_path, [TUNING_SEED], done, "python …"))
    shown = Read(_page.render(_report.page(tmp_path)))
    (row,) = shown.rows("server_optimizer.learning_rate", "client_optimizer.learning_rate")
    assert row["chosen"]["text"] == "best"
    assert [cell["text"] for cell in shown.rows("", "HHF-SNI")[0].values()] == [
        "FedAvg(Adam) - prompt length 10",
        "0.01, 0.01",
    ]


def test_the_page_asks_for_nothing(html, read):
    assert {tag for tag, _ in read.addresses} == {"a", "img", "link"}
    assert all(address.startswith("#" if tag == "a" else "data:") for tag, address in read.addresses)
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in html


def test_tags_are_balanced_and_anchors_unique(read):
    assert not read.unbalanced and not read.open
    assert len({*read.ids}) == len(read.ids)


def test_every_experiment_is_in_the_contents(read):
    linked = [address[1:] for tag, address in read.addresses if tag == "a"]
    for name in (PROFIT, PERFIT, TUNING, FIGURE, DATA):
        assert linked.count(_report.anchor(name)) == 2, "in the contents and in the overview"
        assert EXPERIMENTS[name].claim in " ".join(read.text.split())
    assert {*linked} <= {*read.ids}


def test_what_is_missing_is_named_with_its_reason(workdir, read):
    problems = dict(_report.page(workdir).problems)
    assert problems[FAILED] == "no <luck>"
    assert problems[DAMAGED].startswith("perplexity.jsonl, line 1: not JSON")
    assert problems[f"figures/{PROFIT}/genie.png"] == "no image that can be read"
    assert problems[f"figures/{PERFIT}"] == "not done yet"
    assert not any(DATA in what for what in problems)
    text = " ".join(read.text.split())
    for what, why in problems.items():
        assert text.count(f"{what}: {why}") >= 2, "in the list of all and in its experiment"


def test_the_numbers_of_a_run_are_those_recorded(read):
    """Local scores 0 and 0.2 with seed 0, 0.1 and 0.3 with seed 1; perplexities 4 + seed and 2 in the last round."""
    numbers = read.numbers[SGD]
    assert numbers["steps"] == [0, 4] and numbers["along"] == "epoch"
    assert numbers["mean"] == {"local": [0.05, 0.25], "global": [0.4, 0.4]}
    assert [(line["seed"], line["client"]) for line in numbers["clients"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert numbers["clients"][2]["local"] == [0.1, 0.3]
    fit = read.numbers["perfit_train/dolly-pathological-fit/seed0+1"]
    assert fit["mean"] == {"perplexity": [12.0, 3.25]}
    assert [line["seed"] for line in read.numbers[f"{DAMAGED}+1"]["clients"]] == [1, 1]


def test_every_chart_has_sources_for_its_runs_and_no_numbers(read):
    profit, *perfit = read.charts
    assert [(panel["x"], panel["y"]) for panel in profit["panels"]] == [
        ("epoch", "local"),
        ("epoch", "global"),
        ("local", "global"),
    ]
    assert [(panel["x"], panel["y"]) for each in perfit for panel in each["panels"]] == [("round", "perplexity")] * 2
    assert profit["runs"]["FedAvg(SGD)"] == SGD
    for chart in read.charts:
        assert {*chart["runs"].values()} <= read.numbers.keys()
        for panel in chart["panels"]:
            written = json.dumps(panel["item"])
            sources = [source for label in chart["runs"] for source in panel["sources"][label].values()]
            assert len({*sources}) == len(sources) and all(f'"{source}"' in written for source in sources)


def test_settings_tell_what_differs_apart_from_seeds(read):
    rows = {cells["run"]["text"]: cells for cells in read.rows("run", "seeds")}
    assert rows["hhf-fed_sgd-high"]["seeds"]["text"] == "1"
    assert rows["dolly-pathological-fit"]["method"]["text"] == "fit"
    assert not any("seed" in cells for cells in rows.values())
    shared = [cells["field"]["text"] for cells in read.rows("field", "value")]
    assert {"partition", "sparsity"} <= {*shared} and "seed" not in shared


def test_a_start_goes_by_the_name_of_its_run():
    config = {"personalize": {"start": "/x/profit_train/hhf-fed_sgd/seed3", "seed": 3}, "text": "", "rates": [1 / 3, 2]}
    assert dict(_provenance.told(config)) == {
        "personalize.start": "profit_train/hhf-fed_sgd",
        "text": "-",
        "rates": "0.3333, 2",
    }


def test_commands_that_differ_in_the_experiment_alone_are_one(workdir):
    rows = _summary.read(workdir)
    assert _provenance.commands(rows) == [
        f"python -m launch.reproduce --experiment={PROFIT},{PERFIT},{TUNING} --workdir=w --seeds=2"
    ]


def test_the_environment_is_that_recorded_and_else_that_of_the_report():
    (own,) = _provenance.environments([])
    assert "the runs recorded none" in own.caption and "python" in [row[0].text for row in own.rows]
    recorded = _provenance.environments([{"python": "3.11"}] * 2 + [{"python": "3.12"}])
    assert [table.caption for table in recorded] == ["As recorded by 2 runs", "As recorded by 1 run"]
    assert [table.rows[0][1].text for table in recorded] == ["3.11", "3.12"]


def test_everything_that_a_paper_says_can_be_compared_with_what_was_found():
    said = {effect.paper for experiment in EXPERIMENTS.values() for effect in experiment.effects}
    assert said - {""} <= effects.AGREES.keys()


def test_rows_of_an_experiment_that_is_not_known_are_named(tmp_path):
    (tmp_path / _summary.FILE).write_text(json.dumps({"experiment": "profit/old", "command": "python …"}) + "\n")
    assert [problem.what for problem in _report.page(tmp_path).problems] == ["profit/old"]


def test_without_bokeh_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "launch._page")
    for name in [name for name in sys.modules if name.split(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(InputError, match=r"a report needs bokeh: pip install 'profit-jax\[report\]'"):
        importlib.import_module("launch._page")


def test_the_launcher_writes_one_file_or_says_in_a_line_what_is_wrong(workdir, tmp_path):
    def report(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "launch.report", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)

    done = report(f"--workdir={workdir}", f"--out={tmp_path / 'new' / 'page.html'}")
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.html"]
    bad = report(f"--workdir={tmp_path}")
    wanted = f"error: {tmp_path} holds no effects.jsonl: give the --workdir that launch/reproduce.py has filled\n"
    assert (bad.returncode, bad.stderr) == (2, wanted)
