import json
from pathlib import Path

import numpy as np
import pytest

from profit_jax.errors import InputError
from profit_jax.plots import records
from tests.plots.fakes import (
    client_line,
    perplexity_line,
    round_line,
    two_epochs,
    two_masks,
    write_perfit,
    write_run,
)


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
        (b"\x00", "line 2: not JSON"),
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
    with pytest.raises(InputError, match=r"config\.json: no such file"):
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


def test_the_statistics_of_table_1_are_those_of_training_clients(tmp_path: Path) -> None:
    path = tmp_path / "statistics.json"
    counted = {name: {"mean": mean, "std": mean / 8} for name, mean in zip(records.COUNTED, (1200.0, 4.0, 1.0))}
    path.write_text(json.dumps({"lhf": {"clients": 3, **counted, "test": {"clients": 9}}}))
    (row,) = records.read_statistics(path).values()
    assert dict(zip(records.STATISTICS, (3, 1200.0, 150.0, 4.0, 0.5, 1.0, 0.125), strict=True)) == row
    path.write_text(json.dumps({"lhf": {"clients": 3}}))
    with pytest.raises(InputError, match=r"statistics\.json, lhf, instances: not a JSON object"):
        records.read_statistics(path)


def test_perplexities_are_in_order_and_the_later_of_two_counts(tmp_path: Path) -> None:
    folder = write_perfit(tmp_path / "run", [[8.0, 9.0], [4.0, 5.0]])
    with (folder / "perplexity.jsonl").open("a") as file:
        file.write(json.dumps(perplexity_line(0, 1, 7.0)) + '\n{"round": 2, "cl')
    with pytest.warns(UserWarning, match=r"perplexity\.jsonl, line 6: the last line is damaged and left out"):
        run = records.open_run(folder)
    places = [(line["round"], line["client"], line["perplexity"]) for line in run.perplexities]
    assert places == [(0, 0, 8.0), (0, 1, 7.0), (1, 0, 4.0), (1, 1, 5.0)]
    assert run.perfit and not records.open_run(write_run(tmp_path / "profit")).perfit


def test_a_damaged_perplexity_names_file_and_line(tmp_path: Path) -> None:
    folder = write_perfit(tmp_path / "run")
    line = perplexity_line(0, 0, 4.0)
    for changed, message in (
        ({name: value for name, value in line.items() if name != "tokens"}, "line 1: no field 'tokens'"),
        (line | {"perplexity": None}, "line 1: 'perplexity' is None, not a number"),
    ):
        (folder / "perplexity.jsonl").write_text(json.dumps(changed) + "\n" + json.dumps(line))
        with pytest.raises(InputError, match=rf"perplexity\.jsonl, {message}"):
            records.open_run(folder)


def test_mask_distances_are_read_as_written(tmp_path: Path) -> None:
    folder = write_perfit(tmp_path / "run", masks=two_masks())
    similarity = records.read_similarity(folder / "similarity.npz")
    np.testing.assert_array_equal(similarity.first, [[0, 0.25], [0.25, 0]])
    np.testing.assert_array_equal(similarity.all, [[0, 0.5], [0.5, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"all": None}, "no array 'all'"),
        ({"all": np.zeros((2, 3))}, r"'all' has shape \[2, 3\], not \[clients, clients\]"),
        ({"all": np.zeros((3, 3))}, r"'all' has shape \[3, 3\], not \[clients, clients\]"),
        ({"first": np.zeros(2)}, r"'first' has shape \[2\], not \[clients, clients\]"),
        ({"first": np.float64(0)}, r"'first' has shape \[\], not \[clients, clients\]"),
        ({"first": np.full((2, 2), 7)}, "'first' holds something else than distances between 0 and 1"),
        ({"first": np.full((2, 2), np.nan)}, "'first' holds something else than distances between 0 and 1"),
        ({"first": np.full((2, 2), "0")}, "'first' holds something else than distances between 0 and 1"),
        ({"first": np.full((2, 2), None)}, "not an archive of NumPy arrays: Object arrays cannot be loaded"),
    ],
)
def test_mask_distances_that_are_none_are_named(tmp_path: Path, change, message: str) -> None:
    arrays = {name: array for name, array in (two_masks() | change).items() if array is not None}
    folder = write_perfit(tmp_path / "run", masks=arrays)
    with pytest.raises(InputError, match=rf"similarity\.npz: {message}"):
        records.read_similarity(folder / "similarity.npz")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = (write_perfit(tmp_path / "run", masks=two_masks()) / "similarity.npz").read_bytes()
    np.save(tmp_path / "one.npy", np.zeros((2, 2)))
    changed = whole.replace(np.array(0.25).tobytes(), np.array(0.75).tobytes())  # its checksum tells
    path = tmp_path / "similarity.npz"
    for content in (b"", b"{}", whole[:-30], whole[:100], changed, (tmp_path / "one.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"similarity\.npz: not an archive of NumPy arrays"):
            records.read_similarity(path)
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        records.read_similarity(tmp_path / "none.npz")
