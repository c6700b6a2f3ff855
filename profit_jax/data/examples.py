"""What a client's data is to the rest of the library, wherever it is stored."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Example(NamedTuple):
    """One (query, targets) pair x, y of a client; every target is an accepted answer, the first is trained on."""

    id: str
    query: str
    targets: tuple[str, ...]
    task: str
    task_type: str


class Clients(Protocol):
    """A federated data set: client number -> its examples, in a fixed order."""

    @property
    def sizes(self) -> np.ndarray:
        """Examples of each client, `[n]` int64."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, client: int) -> Sequence[Example]: ...

    def take(self, numbers: Sequence[int]) -> list[Example]:
        """Examples by their number in the concatenation of all clients, whoever owns them."""
        ...


class MemoryClients:
    """Clients held in memory: for tests, notebooks and small data.

    >>> clients = MemoryClients([[Example("a-0", "two plus two", ("four",), "a", "Arithmetic")]])
    >>> len(clients), clients.sizes.tolist(), clients[0][0].targets
    (1, [1], ('four',))
    >>> clients.take([0]) == [clients[0][0]]
    True
    """

    def __init__(self, clients: Sequence[Sequence[Example]]):
        self._clients = [tuple(client) for client in clients]
        self.sizes = np.array([len(client) for client in self._clients], np.int64)

    def __len__(self) -> int:
        return len(self._clients)

    def __getitem__(self, client: int) -> Sequence[Example]:
        return self._clients[client]

    def take(self, numbers: Sequence[int]) -> list[Example]:
        """Examples by their number in the concatenation of all clients."""
        ends = np.cumsum(self.sizes)
        owners = np.searchsorted(ends, numbers, side="right")
        return [self._clients[owner][number - ends[owner]] for owner, number in zip(owners, numbers)]
