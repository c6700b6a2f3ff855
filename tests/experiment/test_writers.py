"""Writers show what the records hold: nothing missing, nothing twice, whatever happened to the run."""

import json
import struct
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from profit_jax.benchmark import Curve
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir
from profit_jax.experiment.writers import Point, TensorBoard, WandB, points

ROUNDS = [{"round": number, "loss": 1 / number, "left_out": 0} for number in range(1, 6)]


def scores(epoch: int, point: str = "epoch", alpha: float = 1.0) -> list[dict]:
    shared = {"point": point, "epoch": epoch, "alpha": alpha, "local_weight": 8, "global_weight": 16}
    return [
        {"client": client, "train_loss": loss, "local": 0.1 * client + epoch, "global": 0.5 - alpha, **shared}
        for client, loss in ((0, None), (1, 2.0), (2, 4.0))
    ]


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every series, as TensorBoard reads them."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        name: [(each.step, each.tensor_proto.float_val[0]) for each in events.Tensors(name)]
        for name in events.Tags()["tensors"]
    }


@pytest.fixture
def tensorboard() -> type[TensorBoard]:
    pytest.importorskip("tensorboard")
    return TensorBoard


def test_tensorboard_shows_every_number_of_every_round_and_the_records_do_not_know(tmp_path, tensorboard):
    for folder, writers in (("plain", []), ("shown", [tensorboard()])):
        workdir = Workdir(tmp_path / folder, {}, writers)
        for row in ROUNDS:
            workdir.append("metrics", row)
            workdir.append("cohorts", {"round": row["round"], "clients": [1, 2]})
    assert shown(tmp_path / "shown") == {
        "loss": [(row["round"], pytest.approx(row["loss"])) for row in ROUNDS],
        "left_out": [(row["round"], 0.0) for row in ROUNDS],
    }
    for name in ("metrics.jsonl", "cohorts.jsonl", "config.json"):
        assert (tmp_path / "shown" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_resumed_run_shows_no_round_twice_and_none_is_missing(tmp_path, tensorboard):
    """The first process got to round 4 and lost its events; the second begins after round 3, of the checkpoint."""
    first = Workdir(tmp_path, {}, [tensorboard()])
    first.append("metrics", *ROUNDS[:4])
    for file in (tmp_path / "tensorboard").iterdir():
        file.write_bytes(b"")
    second = Workdir(tmp_path, {}, [tensorboard()])
    second.keep("metrics", lambda row: row["round"] <= 3)
    second.keep("cohorts", lambda row: row["round"] <= 3)
    for row in ROUNDS[3:]:
        second.append("metrics", row)
    assert shown(tmp_path)["loss"] == [(row["round"], pytest.approx(row["loss"])) for row in ROUNDS]
    assert len([*(tmp_path / "tensorboard").iterdir()]) == 1


def test_a_run_that_has_been_done_is_shown_when_it_is_asked_for_later(tmp_path, tensorboard):
    Workdir(tmp_path, {}).append("metrics", *ROUNDS)
    Workdir(tmp_path, {}, [tensorboard()])
    assert [step for step, _ in shown(tmp_path)["loss"]] == [1, 2, 3, 4, 5]


def test_of_clients_the_means_are_shown_that_the_curve_has():
    rows = [*scores(0), *scores(1), *scores(1, "genie"), *scores(1, "average", 0.5), *scores(1, "average", 0.2)]
    found = points("clients", rows)
    curve = Curve(rows, {})
    epochs = [point for point in found if "epoch/local" in point.numbers]
    assert [point.step for point in epochs] == [0, 1]
    for point, mean in zip(epochs, curve.mean(), strict=True):
        assert point.numbers == {
            "epoch/local": pytest.approx(mean["local"]),
            "epoch/global": pytest.approx(mean["global"]),
            "epoch/train_loss": 3.0,
        }
    averages = {name: value for point in found for name, value in point.numbers.items() if name.endswith("/global")}
    for mean in curve.mean("average"):
        assert averages[f"average {mean['alpha']:g}/global"] == pytest.approx(mean["global"])


def test_settings_side_by_side_are_shown_by_their_place():
    assert points("metrics", [{"round": 2, "loss": [0.5, float("inf")], "seconds": 1.5}]) == [
        Point(2, {"loss/0": 0.5, "loss/1": float("inf"), "seconds": 1.5})
    ]


@pytest.mark.parametrize(("writer", "package"), [(TensorBoard, "tensorboard"), (WandB, "wandb")])
def test_a_writer_that_is_not_installed_says_what_to_install(monkeypatch, writer, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.summary", None)
    with pytest.raises(InputError, match=rf"pip install 'profit-jax\[{package}\]'"):
        writer()


class Service:
    """W&B as far as a writer needs it: a run takes steps in order, and goes on where its id is known."""

    Error = type("Error", (Exception,), {})

    def __init__(self):
        self.runs: dict[str, list[tuple[int, dict]]] = {}
        self.asked: list[dict] = []

    def Settings(self, **settings: str) -> dict[str, str]:
        return settings

    def init(self, **asked: object) -> types.SimpleNamespace:
        self.asked.append(asked)
        history = self.runs.setdefault(asked["id"], [])

        def log(numbers: dict, step: int) -> None:
            assert not history or step >= history[-1][0], "W&B drops what comes out of order"
            history.append((step, numbers))

        return types.SimpleNamespace(step=history[-1][0] + 1 if history else 0, log=log)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    return service


def steps(history: Sequence[tuple[int, dict]]) -> list[int]:
    return [step for step, _ in history]


def test_a_resumed_run_is_the_same_run_of_wandb_and_repeats_no_step(tmp_path, service):
    Workdir(tmp_path / "run", {"rounds": 5}, [WandB()]).append("metrics", *ROUNDS[:4])
    second = Workdir(tmp_path / "run", {"rounds": 5}, [WandB()])
    second.keep("metrics", lambda row: row["round"] <= 2)
    second.append("metrics", *ROUNDS[2:])
    (history,) = service.runs.values()
    assert steps(history) == [1, 2, 3, 4, 5]
    assert history[3] == (4, {"loss": 0.25, "left_out": 0})
    assert {(asked["name"], asked["resume"], asked["dir"]) for asked in service.asked} == {
        ("run", "allow", str(tmp_path / "run"))
    }
    assert service.asked[0]["config"] == {"rounds": 5}


def test_two_workdirs_are_two_runs_of_wandb(tmp_path, service):
    for name in ("a", "b"):
        Workdir(tmp_path / name, {}, [WandB()]).append("metrics", *ROUNDS)
    assert [steps(history) for history in service.runs.values()] == [[1, 2, 3, 4, 5]] * 2


def test_a_refusal_of_wandb_is_one_line(tmp_path, service, monkeypatch):
    def refuse(**asked: object) -> None:
        raise service.Error("no API key\nconfigured")

    monkeypatch.setattr(service, "init", refuse)
    with pytest.raises(InputError, match="Weights & Biases: no API key configured; WANDB_MODE=offline needs neither"):
        Workdir(tmp_path, {}, [WandB()])


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a `.wandb` file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    at, whole = 7, b""
    while at < len(content):
        if 2**15 - at % 2**15 < 7:  # no room for another record's header
            at += 2**15 - at % 2**15
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        whole, at = whole + content[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # full, or the last part
            yield whole
            whole = b""


def test_the_real_wandb_keeps_every_round_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    Workdir(tmp_path, {"rounds": 5}, [WandB()]).append("metrics", *ROUNDS)
    wandb.teardown()  # all of it is on disk then
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    history = [
        {"/".join([item.key, *item.nested_key]).strip("/"): json.loads(item.value_json) for item in record.history.item}
        for record in map(Record.FromString, logged(file.read_bytes()))
        if record.HasField("history")
    ]
    assert [(row["_step"], row["loss"]) for row in history] == [(row["round"], row["loss"]) for row in ROUNDS]
