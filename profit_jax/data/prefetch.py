"""Planning ahead: the next cohorts are read, tokenized and packed while the device works on this one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(prepare: Callable[[Item], Result], items: Iterable[Item], *, ahead: int = 2) -> Iterator[Result]:
    """Yields `prepare(item)` in order, `ahead` of them prepared in a background thread. Its errors surface here.

    >>> list(prefetch(lambda number: number**2, range(4)))
    [0, 1, 4, 9]
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(prepare, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
