"""Launchers of tests, in forks of processes that have imported what they import: half of what a small run takes."""

import atexit
import contextlib
import dataclasses
import functools
import io
import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

_servers_end = contextlib.ExitStack()
atexit.register(_servers_end.close)


class Launcher:
    """A launcher that runs, with the methods of `subprocess.Popen` that tests call."""

    def __init__(self, said: io.FileIO):
        self._said = said
        self._numbers: list[int] = []  # its process number, its exit status

    def wait(self, timeout: float | None = None) -> int:
        return self._number(1, timeout)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(timeout=0)
        return None

    def send_signal(self, which: int) -> None:
        if self.poll() is None:
            os.kill(self._number(0, None), which)

    def _number(self, which: int, timeout: float | None) -> int:
        while len(self._numbers) <= which:
            if not select.select([self._said], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a launcher", timeout)
            self._numbers.append(int(self._said.readline()))
        return self._numbers[which]


@dataclasses.dataclass
class Servers:
    """Processes of one environment, each of which runs a launcher at a time. They end with the process of the tests."""

    environment: tuple[tuple[str, str], ...]
    running: list[tuple[subprocess.Popen[bytes], Launcher]] = dataclasses.field(default_factory=list)

    def start(self, arguments: Sequence[str], log: Path) -> Launcher:
        free = [place for place, (_, last) in enumerate(self.running) if last.poll() is not None]
        server = self.running.pop(free[0])[0] if free else self._new()
        server.stdin.write(json.dumps([str(log), *arguments]).encode() + b"\n")
        launcher = Launcher(server.stdout)
        self.running.append((server, launcher))
        return launcher

    def _new(self) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            [sys.executable, "-m", "launch._forks"],
            cwd=ROOT,
            env=os.environ | dict(self.environment),
            bufsize=0,  # `select` sees what has come
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return _servers_end.enter_context(server)


_servers = functools.cache(Servers)


def start(arguments: Sequence[str], log: Path, environment: dict[str, str]) -> Launcher:
    """Runs `python -m launch.NAME …` in the root of the project; what it says is added to the log."""
    log.touch()
    module = ["-m", f"launch.{Path(arguments[0]).stem}"]
    return _servers(tuple(sorted(environment.items()))).start([*module, *arguments[1:]], log)
