"""All clients, a group at a time: what is done to every client runs in few compiled steps of bounded memory."""

import numpy as np


def groups(sizes: np.ndarray, at_once: int) -> list[np.ndarray]:
    """Client numbers in groups of one size, at most `at_once`, clients of like size together; -1 fills the last.

    >>> [group.tolist() for group in groups(np.array([3, 9, 1, 5, 2]), at_once=2)]
    [[1, 3], [0, 4], [2, -1]]
    """
    count = -(-len(sizes) // at_once)
    each = -(-len(sizes) // count)
    order = np.full(count * each, -1)
    order[: len(sizes)] = np.argsort(-sizes, kind="stable")
    return [*order.reshape(count, each)]
