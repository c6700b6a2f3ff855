"""Pre-emption: whoever takes a machine away says so with SIGTERM first; a run then saves what it has, and ends."""

import signal
import threading
from types import FrameType
from typing import Self

import jax
from jax.experimental import multihost_utils


class Preempted(Exception):
    """The run was asked to end, and has saved what it had done."""


class Preemption:
    """A context manager that hears SIGTERM; Python's main thread alone can.

    Of several processes each may hear it at another moment, or only some; JAX's own service then finds the round after
    which all of them save.
    """

    def __init__(self):
        self._asked = False
        self._seen = 0  # the last round that was asked about

    def __enter__(self) -> Self:
        self._listens = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def asked(self, round: int) -> bool:
        """Whether to save after this round and end. All processes ask after the same rounds."""
        if jax.process_count() > 1:
            # The service names the round after the last that any process has asked about: one that a run which has
            # been resumed since, or asks after every fifth round, would not ask about. So it is asked about each.
            rounds = range(self._seen + 1, round + 1)
            self._seen = round
            return any(map(multihost_utils.reached_preemption_sync_point, rounds))
        return self._asked

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
