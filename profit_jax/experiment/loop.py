"""The loop that every algorithm runs in: cohorts are planned ahead, rounds are compiled steps, records are written."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm.auto import tqdm

from profit_jax.data.cohort import Layout, Plan, Planner
from profit_jax.data.encode import EncodedClients, Encoder
from profit_jax.data.examples import Clients
from profit_jax.data.packing import Block
from profit_jax.data.prefetch import prefetch
from profit_jax.errors import InputError
from profit_jax.experiment.checkpoint import Checkpoints
from profit_jax.experiment.record import Workdir
from profit_jax.federated import sampling
from profit_jax.federated.algorithm import Algorithm, Stats
from profit_jax.federated.mesh import everywhere, over_clients
from profit_jax.metrics.mean import Mean
from profit_jax.typing import Adapter


@dataclasses.dataclass(frozen=True)
class Result:
    """What training leaves."""

    adapter: Adapter  # the best by validation score; without validation, the last
    last: Adapter
    history: list[dict[str, Any]]  # a row a round
    shapes: int  # rungs of the shape ladder in use, each a compiled program


def train(
    algorithm: Algorithm,
    adapter: Adapter,
    clients: Clients,
    *,
    rounds: int,
    clients_per_round: int = 32,
    local_steps: int = 16,
    batch_size: int = 32,
    seed: int = 0,
    weighting: Literal["uniform", "examples"] = "uniform",
    reduction: Literal["example", "token"] = "example",
    encoder: Encoder | None = None,
    layout: Layout | None = None,
    mesh: Mesh | None = None,
    evaluate: Callable[[Adapter], Mean] | None = None,
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
      batch_size: B, examples of a local step.
      seed: of the cohorts and batches; both are functions of (seed, round, client).
      weighting: how clients weigh in the aggregate: all alike (Profit), or by their number of examples.
      reduction: a client's loss is a mean over `example`s (Profit Eq. 1) or over `token`s.
      encoder: text to tokens; by default with the tokenizer of the algorithm's loss and the paper's limits.
      layout: how cohorts are laid out.
      mesh: devices along `clients`; `layout.lanes` must be their number.
      evaluate: the global validation score of an adapter; the adapter with the best one is kept.
      evaluate_every: rounds between evaluations, 0 = never.
      workdir: where records and checkpoints go; a run found there is resumed.
      checkpoint_every: rounds between checkpoints, 0 = only at the end.
      progress: whether to show a progress bar.
    """
    layout = layout or Layout()
    if mesh is not None and mesh.shape["clients"] != layout.lanes:
        raise InputError(f"a mesh of {mesh.shape['clients']} lanes does not fit a layout of {layout.lanes}")
    if weighting not in ("uniform", "examples"):
        raise InputError(f"weighting must be 'uniform' or 'examples', not {weighting!r}")
    if not clients.sizes.all():
        raise InputError(f"training client {int(np.argmin(clients.sizes))} has no examples")
    data = EncodedClients(clients, encoder or Encoder(algorithm.loss.tokenizer))
    planner = Planner(layout, prompt_rows=prompt_rows(adapter), reduction=reduction)

    def plan(round: int) -> Plan:
        return plan_round(
            planner, data, round, seed, algorithm.pooled, clients_per_round, local_steps, batch_size, weighting
        )

    state = algorithm.init(adapter)
    state = everywhere(state, mesh) if mesh else state
    best, best_score, done = jax.tree.map(np.asarray, adapter), -1.0, 0
    history: list[dict[str, Any]] = []
    with Checkpoints(workdir) as saved, tqdm(total=rounds, unit="round", disable=not progress, desc="train") as bar:
        if found := saved.restore(_saved(state, best, best_score)):
            done, tree = found
            state, best, best_score = tree["state"], tree["best"], float(tree["best_score"])
        if workdir:
            workdir.keep("metrics", lambda row: row["round"] <= done)
            recall_shapes(workdir, planner, done)
        bar.update(done)
        for planned in prefetch(plan, range(done, rounds)):
            started = time.perf_counter()
            cohort = over_clients(planned.cohort, mesh) if mesh else planned.cohort
            state, stats = algorithm.round(state, cohort)
            done += 1
            row = {"round": done, **_row(jax.device_get(stats)), "seconds": time.perf_counter() - started}
            if not np.isfinite(row["loss"]):
                raise InputError(f"the loss of round {done} is {row['loss']}; lower a learning rate")
            if evaluate and evaluate_every and (done % evaluate_every == 0 or done == rounds):
                score = evaluate(state.adapter)
                row |= {"validation_score": float(score.value), "validation_weight": int(score.weight)}
                if float(score.value) > best_score:
                    best, best_score = jax.device_get(state.adapter), float(score.value)
            if best_score < 0:  # not validated yet
                best = jax.device_get(state.adapter)
            history.append(row)
            if workdir:
                workdir.append("metrics", row)
                workdir.append("shapes", {"round": done, "shape": planned.shape})
            if done == rounds or (checkpoint_every and done % checkpoint_every == 0):
                saved.save(done, _saved(state, best, best_score))
            bar.set_postfix(loss=f"{row['loss']:.3f}", clients_per_s=f"{clients_per_round / row['seconds']:.1f}")
            bar.update()
    last = jax.device_get(state.adapter)
    return Result(best, last, history, len(planner.shapes))


def plan_round(
    planner: Planner,
    data: EncodedClients,
    round: int,
    seed: int,
    pooled: bool,
    clients_per_round: int,
    local_steps: int,
    batch_size: int,
    weighting: str,
) -> Plan:
    """The cohort of a round: who, with which examples, laid out. A function of (seed, round)."""
    if pooled:
        drawn = sampling.pooled(
            seed, round, int(data.sizes.sum()), shards=clients_per_round, steps=local_steps, batch=batch_size
        )
        examples = iter(data.take(drawn.ravel()))
        shards = [[[next(examples) for _ in step] for step in shard] for shard in drawn]
        return planner(range(clients_per_round), shards)
    cohort = sampling.cohort(seed, round, len(data.sizes), clients_per_round)
    batches = []
    for client in cohort:
        own = data.client(int(client))
        steps = sampling.batches(seed, round, int(client), len(own), steps=local_steps, batch=batch_size)
        batches.append([[own[i] for i in step] for step in steps])
    weights = [float(data.sizes[client]) for client in cohort] if weighting == "examples" else None
    return planner(cohort, batches, weights)


def recall_shapes(workdir: Workdir, planner: Planner, done: int) -> None:
    """Gives the planner of a resumed run the shapes that the stopped run had in use.

    A shape changes no result beyond rounding, but a resumed run is to be the uninterrupted one bit for bit.
    """
    workdir.keep("shapes", lambda row: row["round"] <= done)
    seen = [tuple(Block(*block) for block in row["shape"]) for row in workdir.rows("shapes")]
    planner.shapes[:] = dict.fromkeys(seen)


def prompt_rows(adapter: Adapter) -> int:
    """K, the positions that an adapter puts before every query; 0 for a LoRA."""
    return adapter["prompt"].shape[-2] if "prompt" in adapter else 0


def _row(stats: Stats) -> dict[str, Any]:
    return {
        "loss": float(stats.loss.value),
        "loss_weight": float(stats.loss.weight),
        "client_gradient_norm": float(stats.client_gradient_norm.value),
        "client_gradient_norm_weight": float(stats.client_gradient_norm.weight),
        "adapter_norm": float(stats.adapter_norm),
        "adapter_change_norm": float(stats.change_norm),
    }


def _saved(state: Any, best: Adapter, best_score: float) -> dict[str, Any]:
    last = jax.tree.map(np.asarray, state.adapter)
    return {"state": state, "last": last, "best": best, "best_score": np.asarray(best_score, np.float32)}
