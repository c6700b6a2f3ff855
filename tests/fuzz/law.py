"""The law of bad files: reading one ends in an `InputError` of one line that names it, or in exactly what it says.

`holds` tries one case. While it reads, nothing beside the given folder is opened, nothing is unpickled, no connection
is made, and it comes to an end.
"""

import os
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings

from profit_jax.errors import InputError

Read = TypeVar("Read")

OUTCOMES = ("refused", "read")
CASES: Counter[str] = Counter()
SECONDS = 120  # for one case, which takes less than two where nothing else runs

_PROFILES = {
    "quick": settings(max_examples=8, derandomize=True),
    "long": settings(max_examples=60, print_blob=True),
}
cases = settings(
    _PROFILES[os.environ.get("PROFIT_FUZZ", "quick")],
    database=None,
    phases=(Phase.explicit, Phase.generate),  # a fault is small as it is drawn
    report_multiple_bugs=False,
    suppress_health_check=[*HealthCheck],
)
"""How many cases a test tries, by the environment variable PROFIT_FUZZ: `quick`, the same ones each time, or `long`."""

_FORBIDDEN = ("pickle.find_class", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
_seen: list[tuple[str, Any]] | None = None  # what Python did during a case


class TooLong(BaseException):
    """A case that did not come to an end."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in ("open", *_FORBIDDEN):
        _seen.append((event, arguments[0] if arguments else None))


sys.addaudithook(_audit)


def holds(read: Callable[[], Read], folder: Path, names: Sequence[str | Path], right: Callable[[Read], object]) -> None:
    """Tries one case.

    Args:
      read: reads the file.
      folder: all that may be opened of what lies beside it.
      names: of these an error must name one: the file, or the folder that it is part of.
      right: asserts that what was read is exactly what the file says.
    """
    with _watched(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a skip that is counted and told of
        try:
            found = read()
        except InputError as error:
            found, message = None, str(error)
        else:
            message = ""
    if message:
        assert len(message.splitlines()) == 1 and message.isprintable(), message
        assert any(str(name) in message for name in names), message
        CASES["refused"] += 1
    else:
        right(found)
        CASES["read"] += 1


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    global _seen
    _seen, started = [], time.monotonic()
    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        seen, _seen = _seen, None
    assert time.monotonic() - started < SECONDS
    assert not [each for each in seen if each[0] in _FORBIDDEN], seen
    beside = [each for event, each in seen if event == "open" and _is_beside(each, folder)]
    assert not beside, beside


def _stop(*_: Any) -> None:
    raise TooLong


def _is_beside(file: Any, folder: Path) -> bool:
    if not isinstance(file, str | bytes | os.PathLike):
        return False
    path = Path(os.path.abspath(os.fsdecode(file)))
    return path.is_relative_to(folder.parent) and not path.is_relative_to(folder)
