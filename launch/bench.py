"""Times one configured round, or PerFIT's aggregation, and prints one JSON line.

    python launch/bench.py --config=configs/bench.py
    python launch/bench.py --config=configs/bench.py --config.adapter=lora
    python launch/bench.py --config=configs/bench.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.clients_per_round=32 --config.local_steps=16 --config.batch_size=32 \
        --config.rounds=0 --config.planned=4 --mesh=clients:4    # layout only, of devices that need not be there
    python launch/bench.py --config=configs/bench.py:llama2_7b --config.measure=aggregation

The line's numbers of a round (of an aggregation: launch/_bench_aggregation.py):

    compile_seconds                    the first call of the round's program, less one round
    seconds_per_round                  the median over `rounds`, after the first
    seconds_per_client_step            seconds_per_round / clients / steps
    real_tokens_per_second             query and target tokens, no padding
    positions_per_real_position        positions computed / tokens: what the layout leaves
    share_of_matrix_rate               (4 N positions + 4 V D labels) / seconds / the rate of a plain product before
                                       and after each round; N block weights. Frozen weights have no gradient, so a
                                       position costs 2 N forward and 2 N backward
    peak_memory_gib                    the device's peak, or where it tells none the process's
    programs                           compiled programs of the round
"""

import dataclasses
import itertools
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

import profit_jax as pj
from launch import _bench_aggregation, _parts
from launch._main import define_config, define_mesh, run
from launch._same_length import same_length
from profit_jax.data.cohort import Plan, Planner
from profit_jax.data.encode import EncodedClients
from profit_jax.errors import InputError
from profit_jax.experiment.loop import Schedule
from profit_jax.experiment.plan import model_flops
from profit_jax.federated.mesh import axis_sizes, over_clients
from profit_jax.typing import Adapter

CONFIG = define_config()
MESH = define_mesh()


def main(argv: Sequence[str]) -> None:
    """Plans, runs and times rounds."""
    del argv
    config = CONFIG.value
    if config.measure == "aggregation":
        line = _bench_aggregation.measure(config, seconds)
        print(json.dumps({"device": jax.devices()[0].device_kind, **line, "peak_memory_gib": gib(peak_memory())}))
        return
    if config.measure != "round":
        raise InputError(f"unknown measure {config.measure!r}; known: round, aggregation")
    mesh = _parts.mesh(MESH.value) if config.rounds else None
    lanes = _parts.lanes(mesh) if config.rounds else axis_sizes(MESH.value)["clients"]  # planned without devices
    model = _parts.backbone(config, mesh) if config.model else random_model(config, mesh)
    adapter = make_adapter(config, model)
    layout = _parts.layout(config, lanes)
    if not config.data_dir:  # cohorts of one shape need no ladder
        layout = dataclasses.replace(layout, slack=0.0)
    planner = Planner(layout)
    plan = planned(config, model, planner)
    plans = [plan(round) for round in range(max(config.rounds, config.planned))]
    line = {
        "device": jax.devices()[0].device_kind,
        "adapter": config.adapter,
        "partition": config.partition if config.data_dir else "synthetic",
        "clients": config.clients_per_round,
        "lanes": lanes,
        "positions_per_real_position": round(
            sum(p.computed_positions for p in plans) / sum(p.real_positions for p in plans), 3
        ),
        "shape": plans[-1].shape,
        "shapes": len(planner.shapes),
    }
    if config.rounds:
        line |= timed(config, model, adapter, plans, mesh)
    print(json.dumps(line))


def timed(
    config: ConfigDict, model: pj.Backbone, adapter: Adapter, plans: list[Plan], mesh: Mesh | None
) -> dict[str, float]:
    """Runs the first plan's round again and again."""
    client, server = _parts.optimizer(config.client_optimizer), _parts.optimizer(config.server_optimizer)
    algorithm = pj.fed_avg(model.loss, client_optimizer=client, server_optimizer=server)
    plan = plans[0]
    state = algorithm.start(adapter, mesh)
    cohort = over_clients(plan.cohort, mesh) if mesh else jax.device_put(plan.cohort)

    def one_round() -> None:
        nonlocal state
        state, stats = algorithm.round(state, cohort)
        jax.block_until_ready((state, stats))

    first = seconds(one_round)
    # The machine's rate is measured around every round, since other work on the machine slows both.
    rates, rounds = [matrix_rate(config.dtype)], []
    for _ in range(config.rounds):
        rounds.append(seconds(one_round))
        rates.append(matrix_rate(config.dtype))
    median = statistics.median(rounds)
    useful = model_flops(model.config, plan)
    around = [(before + after) / 2 for before, after in itertools.pairwise(rates)]
    return {
        "compile_seconds": round(first - median, 2),
        "seconds_per_round": round(median, 4),
        "seconds_per_client_step": round(median / config.clients_per_round / config.local_steps, 5),
        "real_tokens_per_second": round(plan.real_positions / median),
        "useful_gflop": round(useful / 1e9, 1),
        "matrix_rate_gflop_per_second": round(statistics.median(around) / 1e9, 1),
        "share_of_matrix_rate": round(
            statistics.median(useful / taken / rate for taken, rate in zip(rounds, around)), 3
        ),
        "peak_memory_gib": gib(peak_memory()),
        "programs": algorithm.compiled._cache_size(),  # pyrefly: ignore[missing-attribute]  JAX has no public name for it
    }


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def matrix_rate(dtype: str, size: int = 2048) -> float:
    """Floating-point operations a second of a plain square matrix product, the median of ten."""
    x = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    return 2 * size**3 / statistics.median(seconds(lambda: product(x, x).block_until_ready()) for _ in range(10))


def gib(count: int) -> float:
    """Bytes in GiB, to two places."""
    return round(count / 2**30, 2)


def peak_memory() -> int:
    """Bytes in use at the peak: the device's own count, or the process's where there is none (CPU)."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def random_model(config: ConfigDict, mesh: Mesh | None) -> pj.Backbone:
    """Random weights of the config's shape, on the mesh."""
    shape = _parts.shape(config.shape)
    return pj.Backbone.random(shape, dtype=config.dtype, quantize=config.quantize, remat=config.remat, mesh=mesh)


def make_adapter(config: ConfigDict, model: pj.Backbone) -> Adapter:
    """A soft prompt or a LoRA."""
    if config.adapter == "prompt":
        return pj.soft_prompt(model, length=config.prompt_length)
    if config.adapter == "lora":
        return pj.lora(model, rank=config.lora_rank)
    raise InputError(f"unknown adapter {config.adapter!r}; known: prompt, lora")


def planned(config: ConfigDict, model: pj.Backbone, planner: Planner) -> Callable[[int], Plan]:
    """Round -> plan, on a prepared partition, or on examples of equal length."""
    clients, steps, batch = config.clients_per_round, config.local_steps, config.batch_size
    if config.data_dir:
        data = EncodedClients(_parts.data(config).train, _parts.encoder(config, model))
    else:
        data = same_length(
            clients=clients,
            size=steps * batch,
            positions=config.example_positions,
            labels=config.example_labels,
            vocabulary=model.config.vocabulary,
            seed=config.seed,
        )
    schedule = Schedule(clients, steps, 0, batch, config.seed)
    return lambda round: schedule.plan(planner, data, round)


if __name__ == "__main__":
    run(main)
