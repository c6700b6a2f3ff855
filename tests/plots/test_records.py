import json
from pathlib import Path

import pytest

from profit_jax.errors import InputError
from profit_jax.plots import records
from tests.plots.fakes import client_line, round_line, two_epochs, write_run


def test_a_workdir_is_read_in_order_whatever_the_order_of_its_lines(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "adam", [round_line(2), round_line(0), round_line(1)], two_epochs()[::-1])
    run = records.open_run(folder)
    assert run.label == "adam"
    assert run.config["algorithm"] == "fed_avg"
    assert [line["round"] for line in run.rounds] == [0, 1, 2]
    assert [(line["epoch"], line["client"]) for line in run.clients] == [(0, 0), (0, 1), (4, 0), (4, 1)]


def test_of_a_record_written_twice_the_later_counts(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        [round_line(0, loss=9.0), round_line(0, loss=1.0)],
        [client_line(0, 0, 0.1, 0.1), client_line(0, 0, 0.2, 0.2)],
    )
    run = records.open_run(folder)
    assert [line["loss"] for line in run.rounds] == [1.0]
    assert [line["local"] for line in run.clients] == [0.2]


def test_a_run_that_has_only_begun_has_no_records(tmp_path: Path) -> None:
    run = records.open_run(write_run(tmp_path / "run", rounds=[]))
    assert run.rounds == () and run.clients == ()


@pytest.mark.parametrize("torn", [b'{"round": 1, "lo', b"\xff\xfe\x00", b'{"round": 1, "lo\n'])
def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path: Path, torn: bytes) -> None:
    folder = write_run(tmp_path / "run", [round_line(0)])
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    with pytest.warns(UserWarning, match=r"metrics\.jsonl, line 2: the last line is damaged and left out"):
        run = records.open_run(folder)
    assert [line["round"] for line in run.rounds] == [0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"round": 1, "lo', "line 2: not JSON"),
        (b"", "line 2: not JSON"),
        (b"[1, 2]", "line 2: not a JSON object"),
        (b'{"round": 1}', "line 2: no field 'loss'"),
        (json.dumps(round_line(1, loss="low")).encode(), "line 2: 'loss' is 'low', not a number"),
        (json.dumps(round_line(1, loss=None)).encode(), "line 2: 'loss' is None, not a number"),
    ],
)
def test_damage_elsewhere_names_file_and_line(tmp_path: Path, line: bytes, message: str) -> None:
    folder = write_run(tmp_path / "run")
    first, last = (json.dumps(round_line(number)).encode() for number in (0, 2))
    (folder / "metrics.jsonl").write_bytes(b"\n".join([first, line, last]) + b"\n")
    with pytest.raises(InputError, match=rf"metrics\.jsonl, {message}"):
        records.open_run(folder)


def test_an_unknown_evaluation_point_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", clients=[client_line(0, 0, 0.1, 0.1, point="epic")])
    with pytest.raises(InputError, match=r"clients\.jsonl: point is 'epic', not one of epoch, average, genie"):
        records.open_run(folder)


def test_a_folder_that_is_no_workdir_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: No such file"):
        records.open_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: not JSON"):
        records.open_run(tmp_path)


def test_divergences_are_those_of_the_training_clients(tmp_path: Path) -> None:
    path = tmp_path / "statistics.json"
    statistics = {"clients": 3, "kl_divergence": {"Task": 2.0}, "test": {"kl_divergence": {"Task": 1.0}}}
    path.write_text(json.dumps({"hhf": statistics}))
    assert records.read_divergences(path) == {"hhf": {"Task": 2.0}}
    path.write_text(json.dumps({"hhf": {"clients": 3}}))
    with pytest.raises(InputError, match=r"statistics\.json, hhf, kl_divergence: not a JSON object"):
        records.read_divergences(path)
