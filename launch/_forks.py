"""Runs launchers, each in a fork of one process that has imported what they import.

Importing takes seconds of each start, as much as a run at the smallest scale. The process that forks has never used
JAX, so a fork is as good as a new process: it parses its own flags and finds its own devices.
"""

import importlib
import json
import os
import queue
import runpy
import select
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from profit_jax.errors import InputError

# What takes long to import, of what launchers import sooner or later.
IMPORTED = (
    "perfit_jax.perplexity",
    "perfit_jax.search",
    "profit_jax.backbone",
    "profit_jax.benchmark",
    "profit_jax.experiment",
    "profit_jax.plots",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.configuration_llama",
)


class Forks:
    """A context manager: `forks(name, arguments)` runs Python with arguments and waits for its end, in any thread."""

    def __init__(self, workdir: Path, count: int = 1):
        """Logs and JAX's cache of compiled programs go under the workdir; `count` calls at a time run side by side."""
        self.count = count
        self._logs = workdir / "logs"
        self._environment = {
            "JAX_COMPILATION_CACHE_DIR": str((workdir / "compiled").absolute()),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        }
        if count > 1:  # the first call would take most of a GPU's memory
            self._environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self._free: queue.SimpleQueue[subprocess.Popen[str] | None] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(None)  # started when it is first needed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for parent in filter(None, (self._free.get() for _ in range(self.count))):
            assert parent.stdin and parent.stdout  # both are pipes
            parent.stdin.close()
            parent.stdout.close()
            parent.wait()

    def __call__(self, name: str, arguments: Sequence[str]) -> str:
        """Runs `python ARGUMENTS` with its output in a log of that name; returns why it failed, or nothing."""
        log = log_of(self._logs, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"$ python {shlex.join(arguments)}\n", encoding="utf-8")
        parent = self._free.get()
        try:
            parent = parent or self._start()
            assert parent.stdin and parent.stdout  # both are pipes
            print(json.dumps([str(log), *arguments]), file=parent.stdin, flush=True)
            _, status = (int(parent.stdout.readline()) for _ in range(2))
        except (OSError, ValueError):
            raise InputError(f"the process that starts launchers has ended, at {name}") from None
        finally:
            self._free.put(parent)
        return (last_error(log) or f"status {status}, see {log}") if status else ""

    def _start(self) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # Whoever has set one of these keeps it.
        return subprocess.Popen([sys.executable, "-m", "launch._forks"], env=self._environment | os.environ, **pipes)


def log_of(logs: Path, name: str) -> Path:
    """The log of the call with that name."""
    return logs / f"{name.replace('/', '-')}.log"


def last_error(log: Path) -> str:
    """What a launcher's log says went wrong, or nothing."""
    errors = [
        line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("error: ")
    ]
    return errors[-1].removeprefix("error: ") if errors else ""


def end_with(pipe: int) -> None:
    """Ends this process when nobody holds the other end of the pipe: the run has lost whoever waits for it."""
    poll = select.poll()
    poll.register(pipe, 0)  # its end alone is waited for, not what can be read
    poll.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def serve() -> None:
    """Reads `[log, *arguments]` a line, runs each in a fork, writes the fork's process number and its exit status."""
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        log, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            pipe = os.dup(sys.stdin.fileno())
            threading.Thread(target=end_with, args=(pipe,), daemon=True).start()
            output = os.open(log, os.O_WRONLY | os.O_APPEND)
            for stream, target in ((sys.stdin.fileno(), os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
                os.dup2(target, stream)
            module, *sys.argv[1:] = arguments[1:]  # after -m
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
