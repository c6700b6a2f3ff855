"""Stage 2: unseen test clients personalize an adapter; every point is scored locally and globally (Profit Section 3).

The local score measures personalization, the global one robustness: how much of the global knowledge is left.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from profit_jax import hosts, rng
from profit_jax.backbone import Backbone
from profit_jax.benchmark.evaluate import Evaluator, Questions
from profit_jax.data.cohort import Batches, Layout, Plan, Planner
from profit_jax.data.encode import Encoder
from profit_jax.data.examples import Clients, Example
from profit_jax.data.prefetch import prefetch
from profit_jax.errors import InputError
from profit_jax.experiment.checkpoint import Checkpoints
from profit_jax.experiment.loop import recall_shapes
from profit_jax.experiment.preemption import Preempted, Preemption
from profit_jax.experiment.record import Workdir
from profit_jax.federated import debugged, local, sampling
from profit_jax.federated.mesh import over_clients
from profit_jax.progress import Progress
from profit_jax.typing import Adapter, Array


@dataclasses.dataclass(frozen=True)
class TestClients:
    """The clients of stage 2: their numbers, training examples, and local and global test examples."""

    numbers: list[int]
    train: list[list[Example]]
    test: list[list[Example]]
    shared: list[Example]  # the global test set, the same for all


def choose_test_clients(
    clients: Clients,
    *,
    count: int = 32,
    train_examples: int = 256,
    test_examples: int = 128,
    global_examples: int = 2048,
    seed: int = 0,
) -> TestClients:
    """Draws `count` clients uniformly, splits their examples, and draws the global set from all their test examples.

    The test sets do not depend on `train_examples`, and fewer of those are among more (Figure 11 compares them).

    >>> import profit_jax as pj
    >>> own = [pj.Example(f"{i}", "a query", ("an answer",), "task", "type") for i in range(6)]
    >>> clients = pj.MemoryClients([own] * 5)
    >>> chosen = choose_test_clients(clients, count=2, train_examples=4, test_examples=2, global_examples=3)
    >>> [len(each) for each in chosen.train], [len(each) for each in chosen.test], len(chosen.shared)
    ([4, 4], [2, 2], 3)
    """
    if count > len(clients):
        raise InputError(f"{count} test clients are asked for, but the data set has {len(clients)}")
    if global_examples > count * test_examples:
        raise InputError(
            f"global_examples = {global_examples} are more than the {count} x {test_examples} test examples there are"
        )
    numbers = sorted(rng.generator(seed, "test clients").choice(len(clients), count, replace=False).tolist())
    train, test = [], []
    for number in numbers:
        own, needed = clients[number], train_examples + test_examples
        if len(own) < needed:
            raise InputError(
                f"test client {number} ({own[0].task}) has {len(own)} examples, fewer than train_examples + "
                f"test_examples = {needed}; lower one of them or prepare the data with larger chunks"
            )
        order = rng.generator(seed, "test split", number).permutation(len(own))
        test.append([own[i] for i in order[:test_examples]])
        train.append([own[i] for i in order[test_examples:needed]])
    pool = [example for own in test for example in own]
    chosen = rng.generator(seed, "global set").choice(len(pool), global_examples, replace=False)
    return TestClients(numbers, train, test, [pool[i] for i in np.sort(chosen)])


@dataclasses.dataclass(frozen=True)
class Curve:
    """Scores along personalization: a row for each client and evaluation point, as in `clients.jsonl`."""

    rows: list[dict[str, Any]]
    adapters: Adapter  # the clients' last, [n, ...]

    def mean(self, point: str = "epoch") -> list[dict[str, float]]:
        """Means over clients at each point, in order: `epoch`, `alpha`, `local`, `global`.

        >>> point = {"point": "epoch", "epoch": 0, "alpha": 1.0}
        >>> Curve([point | {"local": 0.25, "global": 0.5}, point | {"local": 0.75, "global": 0.5}], {}).mean()
        [{'epoch': 0, 'alpha': 1.0, 'local': 0.5, 'global': 0.5}]
        """
        points: dict[tuple[int, float], list[dict[str, Any]]] = {}
        for row in self.rows:
            if row["point"] == point:
                points.setdefault((row["epoch"], row["alpha"]), []).append(row)
        return [
            {"epoch": epoch, "alpha": alpha}
            | {score: float(np.mean([row[score] for row in rows])) for score in ("local", "global")}
            for (epoch, alpha), rows in points.items()
        ]


class Scorer:
    """Local and global scores of the test clients' adapters, as rows to record."""

    def __init__(
        self, evaluator: Evaluator, clients: TestClients, text: Callable[[Example], str] = lambda example: example.query
    ):
        self.clients = clients
        self._evaluator = evaluator
        self._local = [evaluator.questions(own, text) for own in clients.test]
        self._global = evaluator.questions(clients.shared, text)

    def __call__(self, adapters: Adapter) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each client's scores on its own and on the global questions."""
        both = [
            Questions(own.queries + self._global.queries, own.references + self._global.references)
            for own in self._local
        ]
        sizes = [len(own.queries) for own in self._local]
        return [(scores[:size], scores[size:]) for scores, size in zip(self._evaluator.scores(adapters, both), sizes)]

    def shared(self, adapter: Adapter) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same where all clients hold one adapter (no client axis): the global questions are asked once."""
        parts = [*self._local, self._global]
        asked = Questions(*(list(itertools.chain.from_iterable(column)) for column in zip(*parts)))
        (scores,) = self._evaluator.scores(jax.tree.map(lambda leaf: np.asarray(leaf)[None], adapter), [asked])
        *own, of_all = np.split(scores, np.cumsum([len(part.queries) for part in parts])[:-1])
        return [(each, of_all) for each in own]

    def rows(
        self,
        scores: list[tuple[np.ndarray, np.ndarray]],
        *,
        point: str = "epoch",
        epoch: int = 0,
        alpha: float = 1.0,
        losses: Sequence[float | None] | None = None,
    ) -> list[dict[str, Any]]:
        """A row for each client."""
        return [
            {
                "client": number,
                "point": point,
                "epoch": epoch,
                "alpha": alpha,
                "train_loss": None if losses is None else losses[i],
                "local": float(local.mean()),
                "local_weight": len(local),
                "global": float(shared.mean()),
                "global_weight": len(shared),
            }
            for i, (number, (local, shared)) in enumerate(zip(self.clients.numbers, scores))
        ]


def personalize(
    backbone: Backbone,
    adapter: Adapter,
    clients: Clients | TestClients,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int = 10,
    batch_size: int = 32,
    evaluate_every: int = 1,
    average: Sequence[float] = (),
    new_tokens: int = 10,
    seed: int = 0,
    encoder: Encoder | None = None,
    layout: Layout | None = None,
    mesh: Mesh | None = None,
    workdir: Workdir | None = None,
    progress: bool = True,
    debug: bool = False,
    **chosen: int,
) -> Curve:
    """Personalizes `adapter` on every test client and scores all of them along the way.

    All clients train together in one compiled step for each evaluation interval. Besides the clients' own scores
    (point "epoch"), each evaluation has the genie's: for every question the better of the start's and the
    personalized adapter's answer (Appendix C.2, point "genie").

    Args:
      backbone: the frozen model.
      adapter: where every client starts, P_glob.
      clients: test clients, or a data set to draw them from (`count`, `train_examples`, `test_examples`,
        `global_examples` as in `choose_test_clients`).
      optimizer: the clients' optimizer. For l2 regularization chain `optim.proximal(lambda)` before it, to freeze
        rows chain `optim.frozen_rows(rows)` after it.
      epochs: passes over a client's training examples.
      batch_size: examples of a step.
      evaluate_every: epochs between evaluations; epoch 0 and the last are always evaluated.
      average: values of alpha for model averaging: after the last epoch also score alpha P_i + (1 - alpha) P_glob
        (point "average").
      new_tokens: tokens generated for an answer.
      seed: of the choice of clients and the order of examples.
      encoder, layout, mesh, progress: as in `experiment.train`.
      workdir: where records and checkpoints go; a run found there is resumed.
      debug: whether rounds are checked client by client (`federated.debug`).
    """
    if not isinstance(clients, TestClients):
        clients = choose_test_clients(clients, seed=seed, **chosen)
    elif chosen:
        raise InputError(f"{', '.join(chosen)}: the test clients are chosen already")
    layout, encoder = layout or Layout(), encoder or Encoder(backbone.tokenizer)
    evaluator = Evaluator(backbone, encoder, new_tokens=new_tokens)
    scorer = Scorer(evaluator, clients)
    count, encode = len(clients.train), functools.cache(lambda place: encoder(clients.train[place]))
    planner = Planner(layout, readers=hosts.readers(mesh, layout.lanes))
    method = local(backbone.loss, optimizer=optimizer, clients=count)
    method = debugged(method) if debug else method
    state = method.start(adapter, mesh)

    def plan(interval: tuple[int, int]) -> Plan:
        first, last = interval

        def batches(place: int) -> Batches:
            own = encode(place)
            steps = sampling.epochs(seed, first, last - first, clients.numbers[place], len(own), batch=batch_size)
            return [[own[i] for i in step] for step in steps]

        return planner(range(count), batches)

    rows: list[dict[str, Any]] = []

    def record(new: list[dict[str, Any]]) -> None:
        rows.extend(new)
        if workdir:
            workdir.append("clients", *new)

    start, done = scorer.shared(adapter), 0
    known = {0.0: start}  # scores of model averaging, by alpha
    with (
        Checkpoints(workdir) as saved,
        Preemption() as preemption,
        Progress("personalize", epochs * count, "clients", show=progress and hosts.first()) as shown,
    ):
        if found := saved.restore({"state": state}):
            done, tree = found
            state = tree["state"]
        if workdir:
            workdir.keep("clients", lambda row: done and row["epoch"] <= done and row["point"] != "average")
            recall_shapes(workdir, planner, done)
            rows += workdir.rows("clients")
        if not rows:
            record(scorer.rows(start))
        shown.resume(done * count)
        stops = [*range(0, epochs, evaluate_every), epochs]
        intervals = [(first, last) for first, last in itertools.pairwise(stops) if first >= done]
        for (first, last), planned in zip(intervals, prefetch(plan, intervals)):
            cohort = over_clients(planned.cohort, mesh) if mesh else planned.cohort
            state, stats = method.round(state, cohort)
            scores = known[1.0] = scorer(state.adapter)
            record(
                scorer.rows(
                    scores, epoch=last, losses=_by_client(planned.cohort.client, hosts.gathered(stats.losses).value)
                )
            )
            record(scorer.rows(genie(start, scores), point="genie", epoch=last))
            if workdir:
                workdir.append("shapes", {"round": last, "shape": planned.shape})
            saved.save(last, {"state": state})
            if preemption.asked(last) and workdir and last < epochs:
                raise Preempted(f"after epoch {last} of {epochs}")
            local_score, global_score = (np.mean([each[place].mean() for each in scores]) for place in (0, 1))
            values = {"local": f"{local_score:.3f}", "global": f"{global_score:.3f}"}
            shown.advance((last - first) * count, epoch=f"{last}/{epochs}", **values)
    # NumPy's, which every process can read beside what lies on all processes' devices.
    origin = jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (count, *leaf.shape)), adapter)
    for alpha in average:
        scores = known[alpha] if alpha in known else scorer(interpolate(state.adapter, origin, alpha))
        record(scorer.rows(scores, point="average", epoch=epochs, alpha=float(alpha)))
    return Curve(rows, hosts.gathered(state.adapter))


def _by_client(client: Array, values: Array) -> list[float | None]:
    """Values of places `[M, C]`, in the order of client numbers; none where one is not finite."""
    present = client >= 0
    ordered = np.asarray(values, float)[present][np.argsort(client[present])]
    return np.where(np.isfinite(ordered), ordered, np.array(None)).tolist()


def interpolate(personal: Adapter, start: Adapter, alpha: float) -> Adapter:
    """Model averaging: `alpha P_i + (1 - alpha) P_glob` (Appendix C.2; Wortsman et al. 2022).

    >>> interpolate({"prompt": np.array([4.0])}, {"prompt": np.array([0.0])}, alpha=0.25)
    {'prompt': array([1.])}
    """
    return jax.tree.map(lambda p, g: alpha * p + (1 - alpha) * g, personal, start)


def genie(
    start: list[tuple[np.ndarray, np.ndarray]], personal: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every question the better of two scores: who knew which adapter to ask would get this (Appendix C.2)."""
    return [
        (np.maximum(local, own_local), np.maximum(robust, own_robust))
        for (local, robust), (own_local, own_robust) in zip(start, personal)
    ]
