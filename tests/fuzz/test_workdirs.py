"""What runs and `launch/reproduce.py` have left in their workdirs."""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.experiments import EXPERIMENTS, Run
from launch import _report, _runs, _summary
from launch._adapters import run_config
from launch._found import Found
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir
from profit_jax.plots import labels, measures, perplexity, records
from tests.fuzz import faults, law
from tests.plots import fakes

CONFIG = {"stage": "perfit", "method": "perfit", "rank": 8, "sparsity": [0.5], "seed": 0, "personalize": {"epochs": 2}}
ROUNDS = [fakes.round_line(number) for number in (1, 2, 3)]
CLIENTS = fakes.two_epochs()
PERPLEXITIES = [fakes.perplexity_line(number, client, 2.0 + client) for number in (0, 1) for client in (0, 1)]
PARAMETERS = {"trainable": [8, 8], "grid": 16, "rank": 16}
STATISTICS = {
    "hhf": {
        "clients": 3,
        **{name: {"mean": 1.5, "std": 0.5} for name in records.COUNTED},
        "kl_divergence": {"task": 0.25},
    }
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name, rows in {"metrics": ROUNDS, "clients": CLIENTS, "perplexity": PERPLEXITIES}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "parameters.json").write_text(json.dumps(PARAMETERS))
    (folder / "environment.json").write_text(json.dumps({"jax": "0.9", "devices": 1}))
    (folder / "statistics.json").write_text(json.dumps(STATISTICS))
    np.savez_compressed(folder / "similarity.npz", **fakes.two_masks())
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    """The records by plain `json`, without a last line that is not JSON."""
    if not file.exists():
        return []
    content = file.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip().split(b"\n")
    read = []
    for line in content:
        try:
            read += [json.loads(line.decode())] if line.strip() else []
        except (ValueError, RecursionError):
            assert line is content[-1]
    return read


def same(found: Any, said: Any) -> None:
    """Asserts that two JSON values are equal, NaN and NaN too."""
    assert json.dumps(found, sort_keys=True) == json.dumps(said, sort_keys=True)


def _lines_of(found: list[Any], said: list[Any]) -> None:
    """Asserts that these are the lines; the last can be left out."""
    same(found, said if len(found) == len(said) else said[:-1])


def _equal(found: Any, said: Any) -> None:
    assert found == said  # false is 0


def _config(workdir: Path) -> Any:
    labels.of([workdir])
    return dict(records.open_run(workdir).config)


def _clients(workdir: Path) -> Any:
    run = records.open_run(workdir)
    for name in ("local", "epochs_to_local"):
        _or_refused(functools.partial(measures.measure, name, run))
    return run.clients


def _rounds(workdir: Path) -> Any:
    run = records.open_run(workdir)
    for name in ("validation", "gradient_norm"):
        _or_refused(functools.partial(measures.measure, name, run))
    return run.rounds


def _perplexities(workdir: Path) -> Any:
    run = records.open_run(workdir)
    _or_refused(lambda: perplexity.by_setting([run]))
    return run.perplexities


def _or_refused(read: Callable[[], Any]) -> None:
    """Asks something of records that were read, where it may say that they do not hold it."""
    with np.errstate(all="ignore"):
        try:
            read()
        except InputError as error:
            assert "\n" not in str(error)


def _among(rows: Any, said: list[dict[str, Any]], file: Path) -> None:
    """Asserts that records are lines of their file, and that each of its places has one."""
    texts = [json.dumps(line, sort_keys=True) for line in said]
    assert all(json.dumps(row, sort_keys=True) in texts for row in rows)
    assert _places(rows, file) in (_places(said, file), _places(said[:-1], file))  # a bad last line can be left out


def _places(rows: Any, file: Path) -> set[str]:
    """What records are about: of two about the same the later counts."""
    keys = {"metrics": ("round",), "clients": ("point", "epoch", "alpha", "client"), "perplexity": ("round", "client")}
    return {json.dumps([row.get(key) for key in keys[file.stem]]) for row in rows}


RECORDS = {"metrics": (ROUNDS, _rounds), "clients": (CLIENTS, _clients), "perplexity": (PERPLEXITIES, _perplexities)}


@law.cases
@given(st.data())
@pytest.mark.parametrize("name", RECORDS)
def test_records(workdir: Path, name: str, data: st.DataObject) -> None:
    rows, read = RECORDS[name]
    file = workdir / f"{name}.jsonl"
    fault = data.draw(faults.or_no_file(faults.damaged_lines(rows)))
    with faults.spoilt(file, fault):
        law.holds(lambda: read(workdir), workdir, [workdir], lambda found: _among(found, lines(file), file))


@law.cases
@given(faults.or_no_file(faults.damaged_json(CONFIG)))
def test_a_runs_config(workdir: Path, fault: bytes | str) -> None:
    file = workdir / "config.json"
    with faults.spoilt(file, fault):
        if not file.exists():  # a folder without config.json is called by its name
            return
        law.holds(lambda: _config(workdir), workdir, [file], lambda found: same(found, _plain(file)))


@law.cases
@given(faults.or_no_file(faults.damaged_json(CONFIG)))
def test_a_workdir_is_opened_again_by_its_own_config_alone(workdir: Path, fault: bytes | str) -> None:
    file = workdir / "config.json"
    with faults.spoilt(file, fault):
        law.holds(lambda: Workdir(workdir, CONFIG), workdir, [workdir], lambda _: _equal(_plain(file), CONFIG))


@law.cases
@given(faults.or_no_file(faults.damaged_json(CONFIG)))
def test_a_run_to_start_from(workdir: Path, fault: bytes | str) -> None:
    file = workdir / "config.json"
    with faults.spoilt(file, fault):
        law.holds(lambda: run_config(str(workdir)), workdir, [workdir], lambda found: same(found, _plain(file)))


@law.cases
@given(faults.or_no_file(faults.damaged_lines(ROUNDS)))
def test_a_workdirs_rows(workdir: Path, fault: bytes | str) -> None:
    opened, file = Workdir(workdir, CONFIG), workdir / "metrics.jsonl"
    with faults.spoilt(file, fault):
        law.holds(lambda: opened.rows("metrics"), workdir, [file], lambda found: _lines_of(found, lines(file)))


@law.cases
@given(st.data())
@pytest.mark.parametrize("name", ["environment", "statistics", "parameters"])
def test_small_records(workdir: Path, name: str, data: st.DataObject) -> None:
    file = workdir / f"{name}.json"
    fault = data.draw(faults.or_no_file(faults.damaged_json(json.loads(file.read_text()))))

    def right(found: Any) -> None:
        said = _plain(file) if file.is_file() else {}
        if name == "environment":
            same(found, said)
        elif name == "parameters":
            assert found == [f"PerFIT R = {said.get('rank', 16)}"]
        else:
            same(found[1], {partition: record["kl_divergence"] for partition, record in said.items()})
            assert {partition: row["tasks"] for partition, row in found[0].items()} == {
                partition: record["tasks"]["mean"] for partition, record in said.items()
            }

    reads: dict[str, Callable[[], Any]] = {
        "environment": lambda: records.read_environment(file),
        "statistics": lambda: (records.read_statistics(file), records.read_divergences(file)),
        "parameters": lambda: labels.of([workdir]),
    }
    with faults.spoilt(file, fault):
        law.holds(reads[name], workdir, [file], right)


@law.cases
@given(st.data())
def test_distances_of_masks(workdir: Path, data: st.DataObject) -> None:
    """A changed byte is found by the archive's checksums, or stands where it says nothing."""
    file = workdir / "similarity.npz"
    whole = records.read_similarity(file)
    fault = data.draw(faults.or_no_file(faults.damaged(file.read_bytes())))
    with faults.spoilt(file, fault):
        law.holds(
            lambda: records.read_similarity(file), workdir, [file], lambda found: np.testing.assert_equal(found, whole)
        )


@law.cases
@given(faults.or_no_file(faults.damaged_json({"command": "python x", "made_of": {"config": {"seed": 1, "rate": 0.5}}})))
def test_what_says_that_a_run_is_done(workdir: Path, fault: bytes | str) -> None:
    file = workdir / _runs.DONE
    file.write_text("{}")
    job = _runs.Job(workdir.name, [], {"config": {"seed": 1, "rate": 0.5}}, None)

    def right(done: bool) -> None:
        assert done == file.exists()
        if done:
            same(_plain(file)["made_of"], job.made_of)

    with faults.spoilt(file, fault):
        law.holds(lambda: _runs.is_done(job, workdir.parent), workdir, [workdir], right)


EFFECT = next(name for name, experiment in EXPERIMENTS.items() if experiment.effects and not experiment.choices)
CHOICE = next(name for name, experiment in EXPERIMENTS.items() if experiment.choices)
ESTIMATE = {"mean": 0.5, "low": 0.25, "high": 0.75}
ROWS = [
    {
        **{"experiment": EFFECT, "label": "A, B", "measure": "local", "points": ["epoch", "epoch"], "paper": "higher"},
        **{
            "found": "higher",
            "seeds": [0, 1],
            "difference": ESTIMATE,
            "command": "python -m launch.reproduce --seeds=2",
        },
        **{side: {"run": "x", **ESTIMATE, "values": [0.25, 0.75]} for side in "ab"},
    },
    {
        **{"experiment": CHOICE, "line": "a", "column": "b", "run": "x", "fields": {"rate": 0.1}, "best": True},
        **{"values": {"local": 0.5}, "command": "python -m launch.reproduce"},
    },
]


@law.cases
@given(faults.or_no_file(faults.damaged_lines(ROWS)))
def test_rows_of_effects(workdir: Path, fault: bytes | str) -> None:
    file = workdir / _summary.FILE
    file.write_text("")

    def read() -> list[_summary.Row]:
        found = _summary.read(workdir)
        _summary.report(found)
        for row in (
            row for row in found if row["experiment"] in EXPERIMENTS
        ):  # of others a report gives the names alone
            _report.differences([row], 2) if "difference" in row else _report.among([row])
        return found

    with faults.spoilt(file, fault):
        law.holds(read, workdir, [file], lambda found: same(found, lines(file)))


@law.cases
@given(st.sampled_from(("seed", "seed0abc", "seed-1", "seed²", "seed" + "9" * 40, "seed 1", "seed1.bak")))
def test_folders_that_are_of_no_seed_are_not_runs(workdir: Path, name: str) -> None:
    run = Run("profit_train", "x")
    for each in ("seed7", name):
        (workdir / run.name / each).mkdir(parents=True, exist_ok=True)
        (workdir / run.name / each / _runs.DONE).write_text("{}")
    law.holds(lambda: Found(workdir, []).done(run), workdir, [], lambda found: same([seed for seed, _ in found], [7]))


def _plain(file: Path) -> Any:
    return json.loads(file.read_bytes().decode("utf-8-sig"))


def test_a_number_that_is_not_finite_stays_what_it_is(workdir: Path) -> None:
    with faults.spoilt(workdir / "metrics.jsonl", json.dumps(fakes.round_line(1, loss=math.inf)).encode()):
        assert records.open_run(workdir).rounds[0]["loss"] == math.inf
