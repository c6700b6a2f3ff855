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

    def __enter__(self) -> Self:
        self._listens = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def asked(self, round: int) -> bool:
        """Whether to save after this round and end. All processes ask after every round."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(round)
        return self._asked

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
