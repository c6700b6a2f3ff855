"""Who holds which rows: a data set dealt to the clients of personalized federated learning (PerFIT, Section 5.1).

Every function gives the row numbers of each client, in the source's order; no row has two owners. Classes are texts,
one a row.
"""

import math
from collections.abc import Sequence

import numpy as np

from profit_jax.data.examples import Example, MemoryClients
from profit_jax.errors import InputError
from profit_jax.rng import generator

ATTEMPTS = 1000


def pathological(
    classes: Sequence[str], clients: int, *, classes_per_client: int = 2, size: int = 0, seed: int
) -> list[np.ndarray]:
    """As many rows for every client, all of a few classes.

    Classes are dealt like cards from shuffled decks, one deck after another, so that the numbers of clients that hold
    a class differ by one at most. A client's rows are split evenly among its classes; odd ones are of those with most
    rows for each holder.

    Args:
      classes: the class of each row.
      clients: how many clients.
      classes_per_client: different classes that each client holds.
      size: rows of each client; 0 means as many as the classes allow.
      seed: of the deal.

    Raises:
      InputError: rows without a class, fewer classes than a client is to hold, or fewer rows than that takes.
    """
    names, rows = _by_class(classes, clients)
    if not 1 <= classes_per_client <= len(names):
        raise InputError(f"classes_per_client is {classes_per_client}, and the data have {len(names)} classes")
    if size and size < classes_per_client:
        raise InputError(f"size is {size}: a client cannot hold {classes_per_client} classes in so few rows")
    rng = generator(seed, "pathological")
    counts = np.array([len(members) for members in rows])
    holders, hands = np.zeros(len(names), np.int64), []
    for _ in range(clients):  # the cards left of a deck come first, then those of the next that are not in the hand
        hand = np.lexsort((rng.random(len(names)), holders))[:classes_per_client]
        holders[hand] += 1
        hands.append(hand)
    plenty = counts / np.maximum(holders, 1)
    hands = [hand[np.argsort(-plenty[hand], kind="stable")] for hand in hands]

    def needed(size: int) -> np.ndarray:
        return np.bincount(np.ravel(hands), np.tile(_evenly(size, classes_per_client), clients), len(names)).astype(int)

    each = int(min(counts[holders > 0] // holders[holders > 0]))
    sizes = range(classes_per_client * each, classes_per_client * (each + 1))
    largest = max(size for size in sizes if (needed(size) <= counts).all()) if each else 0
    wanted = size or largest or classes_per_client
    if wanted > largest:
        short = int(np.argmax(needed(wanted) - counts))
        most = f"size can be {largest} at most" if largest else "take fewer clients"
        raise InputError(
            f"class {names[short]!r} runs out: its {holders[short]} clients need {needed(wanted)[short]} rows of it, "
            f"there are {counts[short]}; {most}"
        )
    decks = [iter(rng.permutation(members)) for members in rows]
    amounts = _evenly(wanted, classes_per_client)
    return [
        np.sort([next(decks[name]) for name, amount in zip(hand, amounts) for _ in range(amount)]) for hand in hands
    ]


def dirichlet(
    classes: Sequence[str], clients: int, *, beta: float = 0.5, size: int = 0, minimum: int = 10, seed: int
) -> list[np.ndarray]:
    """Each class in proportions over the clients that are drawn from Dir(beta) (Yurochkin et al. 2019).

    The smaller `beta`, the more the clients differ. Proportions are drawn again until every client has `minimum` rows.

    Args:
      classes: the class of each row.
      clients: how many clients.
      beta: the concentration.
      size: rows of a client on average, drawn at random from all; 0 means that all rows are dealt.
      minimum: the fewest rows of a client.
      seed: of the draws.

    Raises:
      InputError: rows without a class, too few of them, a `beta` that is not positive, or no such draw in 1,000.
    """
    if size:
        _check_enough(len(classes), clients, size)
        drawn = np.sort(generator(seed, "dirichlet rows").choice(len(classes), clients * size, replace=False))
        chosen = [classes[row] for row in drawn]
        return [drawn[share] for share in dirichlet(chosen, clients, beta=beta, minimum=minimum, seed=seed)]
    _, rows = _by_class(classes, clients)
    if not 0 < beta < math.inf:
        raise InputError(f"beta is {beta}: give a positive number")
    _check_enough(len(classes), clients, minimum)
    counts = np.array([[len(members)] for members in rows])  # [classes, 1]
    best = 0
    for attempt in range(ATTEMPTS):
        rng = generator(seed, "dirichlet", attempt)
        proportions = rng.dirichlet(np.full(clients, beta), len(rows))
        inner = np.floor(np.cumsum(proportions, axis=1)[:, :-1] * counts).astype(np.int64)
        borders = np.concatenate([np.zeros_like(counts), np.minimum(inner, counts), counts], axis=1)
        smallest = int(np.diff(borders).sum(axis=0).min())
        if smallest >= minimum:
            pieces = [np.split(rng.permutation(members), cuts[1:-1]) for members, cuts in zip(rows, borders)]
            return [np.sort(np.concatenate(share)) for share in zip(*pieces)]
        best = max(best, smallest)
    raise InputError(
        f"in each of {ATTEMPTS} draws from Dir({beta}) some client has fewer than {minimum} rows, {best} at best: take "
        "fewer clients, a smaller minimum or a larger beta"
    )


def equal(rows: int, clients: int, *, size: int = 200, seed: int) -> list[np.ndarray]:
    """`size` rows for each client, at random without replacement; 0 means as many as there are for all.

    Raises:
      InputError: fewer rows than that takes.
    """
    _check_clients(clients)
    if size < 0:
        raise InputError(f"size is {size}: give each client's number of rows, or 0 for as many as there are")
    size = size or max(rows // clients, 1)
    _check_enough(rows, clients, size)
    drawn = generator(seed, "equal").permutation(rows)[: clients * size]
    return list(np.sort(drawn.reshape(clients, size), axis=1))


def hold_out(share: np.ndarray, *, fraction: float = 0.2, seed: int, client: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits a client's rows at random in those to train on and round(fraction * n) to test on.

    Raises:
      InputError: one of the two is left without rows.
    """
    held = round(fraction * len(share))
    if not 0 < held < len(share):
        left = "training" if held > 0 else "test"
        raise InputError(f"client {client} has {len(share)} rows: a test fraction of {fraction} leaves no {left} rows")
    shuffled = generator(seed, "hold out", client).permutation(share)
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])


def clients(
    examples: Sequence[Example], shares: Sequence[np.ndarray], *, fraction: float = 0.2, seed: int
) -> tuple[MemoryClients, MemoryClients]:
    """The clients' training examples and their test examples; see `hold_out`."""
    split = [hold_out(share, fraction=fraction, seed=seed, client=client) for client, share in enumerate(shares)]
    train, test = (MemoryClients([[examples[row] for row in rows] for rows in part]) for part in zip(*split))
    return train, test


def _by_class(classes: Sequence[str], clients: int) -> tuple[list[str], list[np.ndarray]]:
    """The classes in alphabetical order, and the rows of each."""
    _check_clients(clients)
    if not len(classes):
        raise InputError("no rows to share among clients")
    if unnamed := sum(not name for name in classes):
        raise InputError(f"{unnamed} of {len(classes)} rows have no class: name the data's category column")
    names, number = np.unique(np.array(classes, dtype=object), return_inverse=True)
    return names.tolist(), [np.flatnonzero(number == index) for index in range(len(names))]


def _evenly(rows: int, classes: int) -> np.ndarray:
    """So many rows of each class, the larger numbers first."""
    return rows // classes + (np.arange(classes) < rows % classes)


def _check_clients(clients: int) -> None:
    if clients < 1:
        raise InputError(f"clients is {clients}: give at least 1")


def _check_enough(rows: int, clients: int, size: int) -> None:
    if clients * size > rows:
        raise InputError(f"{clients} clients of {size} rows need {clients * size}, and there are {rows}")
