"""A workdir: nothing written over, records whole."""

import json
import os
import platform
import subprocess
import sys

import pytest

from profit_jax.errors import InputError
from profit_jax.experiment import Workdir

CONFIG = {"rounds": 3, "optimizer": {"name": "adam", "rate": 0.1}, "widths": (1, 2)}


def test_the_same_config_opens_a_workdir_again(tmp_path):
    Workdir(tmp_path / "run", CONFIG).append("metrics", {"round": 1})
    assert Workdir(tmp_path / "run", CONFIG).rows("metrics") == [{"round": 1}]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rounds": 4}, "rounds"),
        ({"optimizer": {"name": "sgd", "rate": 0.1}}, "optimizer.name"),
        ({"extra": 1}, "extra"),
        ({"widths": (1,)}, "widths"),
    ],
)
def test_another_config_is_refused_and_names_the_field(tmp_path, change, named):
    Workdir(tmp_path / "run", CONFIG)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(InputError, match=f"holds a run with another {named}"):
        Workdir(tmp_path / "run", CONFIG | change)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no run"):
        Workdir(tmp_path, CONFIG)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="holds no run"):
        Workdir(tmp_path / "run", CONFIG)


def test_a_damaged_config_is_an_error(tmp_path):
    Workdir(tmp_path / "run", CONFIG)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: not JSON: .*; choose another --workdir"):
        Workdir(tmp_path / "run", CONFIG)


def test_a_line_cut_off_by_a_kill_does_not_count(tmp_path):
    workdir = Workdir(tmp_path / "run", CONFIG)
    workdir.append("metrics", {"round": 1}, {"round": 2})
    with open(workdir.path / "metrics.jsonl", "a") as file:
        file.write('{"round": 3, "lo')
    assert workdir.rows("metrics") == [{"round": 1}, {"round": 2}]
    workdir.keep("metrics", lambda row: row["round"] < 2)
    assert [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()] == [{"round": 1}]


def test_no_rows_make_no_file(tmp_path):
    """So a run of Profit has no perplexity.jsonl."""
    workdir = Workdir(tmp_path / "run", {})
    workdir.append("perplexity")
    assert not (tmp_path / "run" / "perplexity.jsonl").exists() and workdir.rows("perplexity") == []


def test_the_environment_is_that_of_the_process_that_began_the_run(tmp_path):
    file = Workdir(tmp_path / "run", CONFIG).path / "environment.json"
    recorded = json.loads(file.read_text())
    assert recorded["python"] == platform.python_version() and recorded["device"] == "cpu" and recorded["jax"]
    file.write_text("{}")
    Workdir(tmp_path / "run", CONFIG)
    assert file.read_text() == "{}"


def test_a_workdir_in_which_another_process_runs_is_refused(tmp_path):
    opens = "from profit_jax.experiment import Workdir; Workdir(sys.argv[1], {'rounds': 3})"
    holds = f"import sys, time; {opens}; print(flush=True)"
    command = [sys.executable, "-c", f"{holds}; time.sleep(600)", str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match="run: another process is running in it"):
            Workdir(tmp_path / "run", {"rounds": 3})
        other.kill()
    Workdir(tmp_path / "run", {"rounds": 3})


def test_a_folder_that_a_process_was_stopped_in_before_its_config_stood_is_opened(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "environment.json").write_text("{}")
    (tmp_path / "run" / "config.json.123.part").write_text('{"ro')
    assert Workdir(tmp_path / "run", CONFIG).rows("metrics") == []
