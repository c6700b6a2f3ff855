"""How far work has come: whole lines in a log file, a bar on a terminal, the rate of what this process has done."""

import io
import re

import pytest

from profit_jax import progress
from profit_jax.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """tqdm's clock."""
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    return clock


def told(clock: Clock, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, rounds: int, seconds: float) -> str:
    """What work of so many rounds of 8 clients leaves on a stream."""
    monkeypatch.setattr("sys.stderr", stream)
    with Progress("train", rounds * 8, "clients") as shown:
        for number in range(1, rounds + 1):
            clock.now += seconds
            shown.advance(8, round=f"{number}/{rounds}", loss=f"{1 / number:.3f}")
    return stream.getvalue()


def test_a_log_file_gets_about_twenty_whole_lines_however_long_the_work(clock, monkeypatch):
    text = told(clock, io.StringIO(), monkeypatch, rounds=500, seconds=30.0)
    lines = text.splitlines()
    assert progress.LINES <= len(lines) <= progress.LINES + 2
    assert "\r" not in text and text.endswith("\n") and all(line.startswith("train: ") for line in lines)
    assert lines[0] == "train: 8/4000 [00:30<4:09:30,  0.27 clients/s, round=1/500, loss=1.000]"
    assert lines[-1] == "train: 4000/4000 [4:10:00<00:00,  0.27 clients/s, round=500/500, loss=0.002]"


def test_short_work_leaves_one_line_in_a_log_file(clock, monkeypatch):
    text = told(clock, io.StringIO(), monkeypatch, rounds=40, seconds=0.2)
    assert text == "train: 320/320 [00:08<00:00, 40.00 clients/s, round=40/40, loss=0.025]\n"


def test_lines_of_a_log_file_are_seconds_apart(clock, monkeypatch):
    text = told(clock, io.StringIO(), monkeypatch, rounds=60, seconds=1.0)
    at = [int(seconds) for seconds in re.findall(r"\[(?:00|01):(\d\d)<", text)]
    assert at == [10, 20, 30, 40, 50, 0]


def test_a_terminal_gets_a_bar_with_clients_a_second_and_what_is_left(clock, monkeypatch):
    text = told(clock, Terminal(), monkeypatch, rounds=4, seconds=2.0)
    last = text.rstrip().rsplit("\r", 1)[-1]
    assert last.startswith("train: 100%|") and last.endswith(
        "| 32/32 [00:08<00:00,  4.00 clients/s, round=4/4, loss=0.250]"
    )
    assert text.count("\n") == 1


def test_the_rate_does_not_count_what_was_done_before(clock, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress("train", 100, "clients") as shown:
        shown.resume(80)
        clock.now += 20
        shown.advance(10)
    assert stream.getvalue() == "train: 90/100 [00:20<00:20,  0.50 clients/s]\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_nothing_is_told_where_none_is_asked_for_or_there_is_nothing_to_do(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", written := stream())
    for total, show in ((3, False), (0, True)):
        with Progress("train", total, "clients", show=show) as shown:
            shown.advance(3, loss="1.0")
    assert not written.getvalue()
