"""The loop that every algorithm runs in: cohorts are planned ahead, rounds are compiled steps, records are written."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from profit_jax import hosts, trees
from profit_jax.data.cohort import Batches, Layout, Planner
from profit_jax.data.encode import EncodedClients, Encoder
from profit_jax.data.examples import Clients
from profit_jax.data.packing import Shape
from profit_jax.data.prefetch import prefetch
from profit_jax.errors import InputError
from profit_jax.experiment.checkpoint import Checkpoints
from profit_jax.experiment.preemption import Preempted, Preemption
from profit_jax.experiment.record import Workdir
from profit_jax.federated import sampling
from profit_jax.federated.algorithm import Algorithm, Stats
from profit_jax.federated.mesh import over_clients
from profit_jax.progress import Progress
from profit_jax.typing import Adapter, Tree

Laid = TypeVar("Laid")


@dataclasses.dataclass(frozen=True)
class Result:
    """What training leaves; of settings side by side every leaf has an axis `[G]` of them first."""

    adapter: Adapter  # the best by score; of a run without scores, the last
    last: Adapter
    state: Any  # the algorithm's last state
    history: list[dict[str, Any]]  # a row a round
    clients: list[dict[str, Any]]  # what was measured of each client: rows of perplexity.jsonl
    shapes: int  # rungs of the shape ladder in use, each a compiled program


class Evaluation(NamedTuple):
    """What is measured of a state between rounds."""

    row: Mapping[str, Any]  # joins the round's row in metrics.jsonl
    score: Any = None  # where there is one, a number or one a setting `[G]`, the adapter with the highest is kept
    clients: Sequence[Mapping[str, Any]] = ()  # rows of perplexity.jsonl, a row a client


def train(
    algorithm: Algorithm,
    adapter: Adapter,
    clients: Clients,
    *,
    rounds: int,
    clients_per_round: int = 32,
    local_steps: int = 16,
    local_epochs: int = 0,
    batch_size: int = 32,
    seed: int = 0,
    weighting: Literal["uniform", "examples"] = "uniform",
    reduction: Literal["example", "token"] = "example",
    encoder: Encoder | None = None,
    layout: Layout | None = None,
    mesh: Mesh | None = None,
    evaluate: Callable[[Any], Evaluation] | None = None,
    evaluate_every: int = 0,
    workdir: Workdir | None = None,
    checkpoint_every: int = 0,
    progress: bool = True,
) -> Result:
    """Runs `rounds` rounds of an algorithm from `adapter` and returns the trained adapter.

    Args:
      algorithm: its `init` and `round`.
      adapter: where training starts; `{"prompt": [K, D]}` or a LoRA.
      clients: the training clients.
      rounds: how many.
      clients_per_round: cohort size; for pooled algorithms the number of shards of a batch.
      local_steps: S, local steps of a client in a round.
      local_epochs: instead of `local_steps`, whole passes of a client over its examples; 0 = count steps.
      batch_size: B, examples of a local step.
      seed: of the cohorts and batches; both are functions of (seed, round, client).
      weighting: how clients weigh in the aggregate: all alike (Profit), or by their number of examples.
      reduction: a client's loss is a mean over `example`s (Profit Eq. 1) or over `token`s.
      encoder: text to tokens; by default with the tokenizer of the algorithm's loss and the paper's limits.
      layout: how cohorts are laid out.
      mesh: devices along `clients`; `layout.lanes` must be their number.
      evaluate: what to measure of a state.
      evaluate_every: rounds between evaluations, 0 = never; the last round is always evaluated.
      workdir: where records and checkpoints go; a run found there is resumed.
      checkpoint_every: rounds between checkpoints, 0 = only at the end.
      progress: whether to tell on stderr how far it has come.

    Any loss will do. This one is of a model that knows how often each token comes, and nothing else:

    >>> import jax.numpy as jnp, optax, profit_jax as pj
    >>> class Unigram:
    ...     frozen, tokenizer = {"weights": jnp.zeros(0)}, pj.Backbone.load("tiny").tokenizer
    ...     def read(self, frozen, adapters):
    ...         return adapters
    ...     def __call__(self, frozen, adapters, rows):
    ...         owner = rows.client[rows.label_at // rows.tokens.shape[1]]
    ...         nll = -jax.nn.log_softmax(adapters["logits"])[owner, rows.label_token]
    ...         return jnp.zeros(len(adapters["logits"])).at[owner].add(rows.label_weight * nll)
    >>> clients = pj.MemoryClients([[pj.Example("1", "two plus two", ("four",), "sums", "Arithmetic")]] * 3)
    >>> algorithm = pj.fed_sgd(Unigram(), server_optimizer=optax.sgd(1.0))
    >>> start, sizes = {"logits": jnp.zeros(1024)}, {"clients_per_round": 2, "local_steps": 1, "batch_size": 1}
    >>> result = train(algorithm, start, clients, rounds=2, **sizes, progress=False)
    >>> before, after = (row["loss"] for row in result.history)
    >>> after < before
    True
    """
    layout = layout or Layout()
    if mesh is not None and mesh.shape["clients"] != layout.lanes:
        raise InputError(f"a mesh of {mesh.shape['clients']} lanes does not fit a layout of {layout.lanes}")
    if weighting not in ("uniform", "examples"):
        raise InputError(f"weighting must be 'uniform' or 'examples', not {weighting!r}")
    if local_epochs and algorithm.pooled:
        raise InputError("centralized training has no clients to make local epochs; give local_steps")
    if not clients.sizes.all():
        raise InputError(f"training client {int(np.argmin(clients.sizes))} has no examples")
    data = EncodedClients(clients, encoder or Encoder(algorithm.loss.tokenizer))
    readers = hosts.readers(mesh, layout.lanes)
    schedule = Schedule(clients_per_round, local_steps, local_epochs, batch_size, seed, weighting, algorithm.pooled)
    steps = schedule.most_steps(clients.sizes)
    planner = Planner(layout, reduction=reduction, steps=steps, readers=readers)

    state = algorithm.start(adapter, mesh)
    best, done = None, 0  # none until there is a score
    best_score = np.full(algorithm.settings or (), -np.inf, np.float32)
    history: list[dict[str, Any]] = []
    of_clients: list[dict[str, Any]] = []
    with (
        Checkpoints(workdir) as saved,
        Preemption() as preemption,
        Progress("train", rounds * clients_per_round, "clients", show=progress and hosts.first()) as shown,
    ):
        if found := saved.restore({"state": state, "best": on_host(state.adapter), "best_score": best_score}):
            done, tree = found
            state, best, best_score = tree["state"], tree.get("best"), tree.get("best_score", best_score)
        if workdir:
            for name in ("metrics", "cohorts", "perplexity"):
                workdir.keep(name, lambda row: row["round"] <= done)
            recall_shapes(workdir, planner, done)
        shown.resume(done * clients_per_round)
        ended = time.perf_counter()
        for planned in prefetch(lambda round: schedule.plan(planner, data, round), range(done, rounds)):
            started = time.perf_counter()
            waited = started - ended  # for the cohort; the devices had nothing to do
            cohort = over_clients(planned.cohort, mesh) if mesh else planned.cohort
            state, stats = algorithm.round(state, cohort)
            stats, done = hosts.gathered(stats), done + 1
            row = {"round": done, **_row(stats), "seconds": time.perf_counter() - started, "waited": waited}
            took_part = _cohort_row(algorithm, state, np.asarray(planned.cohort.client), stats)
            if np.isnan(row["loss"]).all():  # a setting that diverges leaves those beside it whole
                raise InputError(_all_lost(done, took_part["clients"], saved.newest()))
            row |= {"bytes_up": sum(took_part["bytes_up"]), "bytes_down": sum(took_part["bytes_down"])}
            measured = Evaluation({})
            if evaluate and evaluate_every and (done % evaluate_every == 0 or done == rounds):
                measured = evaluate(state)
                row |= measured.row
                if measured.score is not None:
                    better = np.asarray(measured.score) > best_score
                    if better.any():
                        now = hosts.gathered(state.adapter)
                        best = now if best is None else jax.device_get(trees.where(better, now, best))
                    best_score = np.where(better, measured.score, best_score).astype(np.float32)
            history.append(row)
            of_each = [{"round": done, **one} for one in measured.clients]
            of_clients += of_each
            if workdir:
                workdir.append("metrics", row)
                workdir.append("cohorts", {"round": done, **took_part})
                workdir.append("perplexity", *of_each)
                workdir.append("shapes", {"round": done, "shape": planned.shape})
            ends = preemption.asked(done) and workdir is not None
            if ends or done == rounds or (checkpoint_every and done % checkpoint_every == 0):
                scored = {} if best is None else {"best": best, "best_score": best_score}
                saved.save(done, {"state": state, **scored})
            if ends and done < rounds:
                raise Preempted(f"after round {done} of {rounds}")
            shown.advance(clients_per_round, round=f"{done}/{rounds}", loss=f"{np.nanmin(row['loss']):.3f}")
            ended = time.perf_counter()
    if lost := int(sum(np.sum(row["left_out"]) for row in history)):
        named = f"; {workdir.path / 'cohorts.jsonl'} names them" if workdir else ""
        warnings.warn(
            f"{lost} times a client was left out of its round, its loss or update not finite{named}", stacklevel=2
        )
    last = hosts.gathered(state.adapter)
    return Result(last if best is None else best, last, state, history, of_clients, len(planner.shapes))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Who takes part in a round and with which examples: a function of (seed, round)."""

    clients_per_round: int
    local_steps: int
    local_epochs: int
    batch_size: int
    seed: int
    weighting: Literal["uniform", "examples"] = "uniform"
    pooled: bool = False

    def most_steps(self, sizes: np.ndarray) -> int:
        """Local steps in a round of the client that has most, of clients of these `sizes` `[n]`."""
        return self.local_epochs * -(-int(sizes.max()) // self.batch_size) if self.local_epochs else self.local_steps

    def plan(self, planner: Callable[..., Laid], data: EncodedClients, round: int) -> Laid:
        """What a `Planner` makes of a round's clients, their batches and their weights: the cohort, laid out."""
        if self.pooled:
            drawn = sampling.pooled(
                self.seed,
                round,
                int(data.sizes.sum()),
                shards=self.clients_per_round,
                steps=self.local_steps,
                batch=self.batch_size,
            )

            def shard(number: int) -> Batches:
                examples = iter(data.take(drawn[number].ravel()))
                return [[next(examples) for _ in step] for step in drawn[number]]

            return planner(range(self.clients_per_round), shard)
        cohort = sampling.cohort(self.seed, round, len(data.sizes), self.clients_per_round)

        def batches(place: int) -> Batches:
            client = int(cohort[place])
            own = data.client(client)
            return [[own[i] for i in step] for step in self._steps(round, client, len(own))]

        weights = [float(data.sizes[client]) for client in cohort] if self.weighting == "examples" else None
        return planner(cohort.tolist(), batches, weights)

    def _steps(self, round: int, client: int, size: int) -> list[np.ndarray]:
        if self.local_epochs:
            first = round * self.local_epochs
            return sampling.epochs(self.seed, first, self.local_epochs, client, size, batch=self.batch_size)
        return sampling.batches(self.seed, round, client, size, steps=self.local_steps, batch=self.batch_size)


def recall_shapes(workdir: Workdir, planner: Planner, done: int) -> None:
    """Gives the planner of a resumed run the shapes that the stopped run had in use.

    A shape changes no result beyond rounding, but a resumed run is to be the uninterrupted one bit for bit.
    """
    workdir.keep("shapes", lambda row: row["round"] <= done)
    planner.shapes[:] = dict.fromkeys(Shape(*row["shape"]) for row in workdir.rows("shapes"))


def on_host(tree: Tree) -> Tree:
    """NumPy arrays of a tree's shapes, as a place for what is restored."""
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)


def _row(stats: Stats) -> dict[str, Any]:
    """A number each; of settings side by side a list of theirs."""
    values = {
        "loss": stats.loss.value,
        "loss_weight": stats.loss.weight,
        "client_gradient_norm": stats.client_gradient_norm.value,
        "client_gradient_norm_weight": stats.client_gradient_norm.weight,
        "adapter_norm": stats.adapter_norm,
        "adapter_change_norm": stats.change_norm,
        "left_out": (~stats.sound).sum((-2, -1)),
    }
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def _all_lost(round: int, clients: Sequence[int], newest: int | None) -> str:
    """What to say of a round in which no client counts."""
    named = ", ".join(map(str, clients[:8])) + ", …" * (len(clients) > 8)
    saved = "there is no checkpoint" if newest is None else f"the last checkpoint is of round {newest}"
    return f"round {round}: no client's loss and update are finite (clients {named}); {saved}; lower a learning rate"


def _cohort_row(algorithm: Algorithm, state: Any, client: np.ndarray, stats: Stats) -> dict[str, list]:
    """Who took part, their losses, who was left out and at which step, bytes sent and got (float32 values).

    Of settings side by side, `losses` and `left_out` are a list of each one's.
    """
    present = client >= 0
    exchanged = 4 * np.asarray(algorithm.exchanged(state, client[present]))
    losses, lost = np.asarray(stats.losses.value)[..., present], np.asarray(stats.lost)[..., present]
    clients = client[present]

    def left_out(lost: np.ndarray) -> list:
        if lost.ndim > 1:
            return [*map(left_out, lost)]
        return [{"client": int(clients[i]), "step": int(lost[i])} for i in np.flatnonzero(lost)]

    return {
        "clients": clients.tolist(),
        "losses": np.where(np.isfinite(losses), losses, np.array(None)).tolist(),
        "left_out": left_out(lost),
        "bytes_up": exchanged.tolist(),
        "bytes_down": exchanged.tolist(),
    }
