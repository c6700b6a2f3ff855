"""A configured round: planned, compiled, timed. The line's numbers:

compile_seconds                    the first call of the round's program, less one round
seconds_per_round                  the median over `rounds`, after the first
seconds_per_client_step            seconds_per_round / clients / steps
real_tokens_per_second             query and target tokens, no padding
positions_per_real_position        positions computed / (prompt rows + tokens): what the layout leaves
share_of_matrix_rate               (4 N positions + 4 V D labels) / seconds / the rate of a plain product before
                                   and after each round; N block weights. Frozen weights have no gradient, so a
                                   position costs 2 N forward and 2 N backward
programs                           compiled programs of the round
times_faster, bound                share_of_matrix_rate again, as a row of the table
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import profit_jax as pj
from launch import _parts
from launch._same_length import same_length
from launch._timing import matrix_rate, seconds
from profit_jax.backbone.model import folder_of
from profit_jax.backbone.tokenizer import Tokenizer, load_tokenizer
from profit_jax.data import instructions, shares
from profit_jax.data.cohort import Batches, Plan, Planner
from profit_jax.data.encode import EncodedClients
from profit_jax.errors import InputError
from profit_jax.experiment.loop import Schedule
from profit_jax.experiment.plan import model_flops
from profit_jax.federated import Algorithm
from profit_jax.federated.mesh import axis_sizes, over_clients
from profit_jax.typing import Adapter, Cohort


class Setting(NamedTuple):
    """What rounds of a config are made of."""

    model: pj.Backbone
    adapter: Adapter
    planner: Planner
    data: EncodedClients
    schedule: Schedule

    def plan(self, round: int) -> Plan:
        """The cohort of a round."""
        return self.schedule.plan(self.planner, self.data, round)

    def batches(self, round: int) -> list[Batches]:
        """The same round's examples, of each client, before they are laid out."""

        def as_they_are(clients: Sequence[int], read: Callable[[int], Batches], weights: object) -> list[Batches]:
            return [*map(read, range(len(clients)))]

        return self.schedule.plan(as_they_are, self.data, round)


def measure(config: ConfigDict, axes: str) -> dict[str, Any]:
    """Plans rounds and times the first; with `rounds` = 0 only plans, for devices that need not be there.

    Args:
      config: of configs/bench.py.
      axes: devices along each axis of the mesh, as in `clients:8,model:4`.
    """
    mesh = _parts.mesh(axes) if config.rounds else None
    lanes = _parts.lanes(mesh) if config.rounds else axis_sizes(axes)["clients"]  # planned without devices
    made = setting(config, lanes, mesh)
    plans = [made.plan(round) for round in range(max(config.rounds, config.planned))]
    line = {
        **told(config),
        "lanes": lanes,
        "positions_per_real_position": round(
            sum(p.computed_positions for p in plans) / sum(p.real_positions for p in plans), 3
        ),
        "shape": plans[-1].shape,
        "shapes": len(made.planner.shapes),
    }
    return line | timed(config, made, plans[0], mesh) if config.rounds else line


def setting(config: ConfigDict, lanes: int, mesh: Mesh | None) -> Setting:
    """The config's model, adapter, data and schedule."""
    model = _parts.backbone(config, mesh) if config.model else random_model(config, mesh)
    adapter = make_adapter(config, model)
    layout = _parts.layout(config, lanes)
    if not (config.data_dir or config.data):  # cohorts of one shape need no ladder
        layout = dataclasses.replace(layout, slack=0.0)
    planner = Planner(layout)
    schedule = Schedule(config.clients_per_round, config.local_steps, 0, config.batch_size, config.seed)
    return Setting(model, adapter, planner, examples(config, model, planner), schedule)


def told(config: ConfigDict) -> dict[str, Any]:
    """What a line says of the config."""
    return {
        "adapter": config.adapter,
        "partition": config.partition if config.data_dir else config.data.partition(":")[0] or "synthetic",
        "clients": config.clients_per_round,
    }


def timed(config: ConfigDict, made: Setting, plan: Plan, mesh: Mesh | None) -> dict[str, Any]:
    """Runs a plan's round again and again."""
    rounds = Rounds(algorithm(config, made.model), made.adapter, plan.cohort, mesh)
    first = seconds(rounds)
    # The machine's rate is measured around every round, since other work on the machine slows both.
    rates, taken = [matrix_rate(config.dtype)], []
    for _ in range(config.rounds):
        taken.append(seconds(rounds))
        rates.append(matrix_rate(config.dtype))
    median = statistics.median(taken)
    useful = model_flops(made.model.config, plan)
    around = [(before + after) / 2 for before, after in itertools.pairwise(rates)]
    share = statistics.median(useful / each / rate for each, rate in zip(taken, around))
    return {
        "compile_seconds": round(first - median, 2),
        "seconds_per_round": round(median, 4),
        "seconds_per_client_step": round(median / config.clients_per_round / config.local_steps, 5),
        "real_tokens_per_second": round(plan.real_positions / median),
        "useful_gflop": round(useful / 1e9, 1),
        "matrix_rate_gflop_per_second": round(statistics.median(around) / 1e9, 1),
        "share_of_matrix_rate": round(share, 3),
        "programs": rounds.algorithm.compiled._cache_size(),  # pyrefly: ignore[missing-attribute]  JAX names it nowhere else
        "times_faster": {"a product's rate": round(share, 3)},
        "bound": f"{share:.0%} of the matrix rate, positions {plan.waste:.2f}",
    }


class Rounds:
    """One cohort's round, again and again, each from the state that the last one left."""

    def __init__(self, algorithm: Algorithm, adapter: Adapter, cohort: Cohort, mesh: Mesh | None = None):
        self.algorithm, self.state = algorithm, algorithm.start(adapter, mesh)
        self._cohort = over_clients(cohort, mesh) if mesh else jax.device_put(cohort)

    def __call__(self) -> None:
        """A round, until it is over."""
        self.state, stats = self.algorithm.round(self.state, self._cohort)
        jax.block_until_ready((self.state, stats))

    def adapter(self) -> Adapter:
        """As it is now."""
        return self.state.adapter


def algorithm(config: ConfigDict, model: pj.Backbone) -> Algorithm:
    """FedAvg with the config's optimizers."""
    client, server = _parts.optimizer(config.client_optimizer), _parts.optimizer(config.server_optimizer)
    return pj.fed_avg(model.loss, client_optimizer=client, server_optimizer=server)


def random_model(config: ConfigDict, mesh: Mesh | None) -> pj.Backbone:
    """Random weights of the config's shape, on the mesh."""
    shape = _parts.shape(config.shape)
    tokenizer = tokenizer_of(config, shape)
    return pj.Backbone.random(
        shape, dtype=config.dtype, quantize=config.quantize, tokenizer=tokenizer, remat=config.remat, mesh=mesh
    )


def tokenizer_of(config: ConfigDict, shape: pj.BackboneConfig) -> Tokenizer | None:
    """The tokenizer of the folder that the config names."""
    return load_tokenizer(folder_of(config.tokenizer), shape) if config.tokenizer else None


def make_adapter(config: ConfigDict, model: pj.Backbone) -> Adapter:
    """A soft prompt or a LoRA."""
    if config.adapter == "prompt":
        return pj.soft_prompt(model, length=config.prompt_length)
    if config.adapter == "lora":
        return pj.lora(model, rank=config.lora_rank)
    raise InputError(f"unknown adapter {config.adapter!r}; known: prompt, lora")


def examples(config: ConfigDict, model: pj.Backbone, planner: Planner) -> EncodedClients:
    """A prepared partition, instructions dealt evenly to `clients` clients, or examples of equal length."""
    if config.data_dir and config.data:
        raise InputError("data_dir and data are both given; a round is of a prepared partition or of instructions")
    if config.data_dir:
        return EncodedClients(_parts.data(config).train, _parts.encoder(config, model))
    if config.data:
        rows = instructions.load(config.data, seed=config.seed).examples
        split = shares.equal(len(rows), config.clients, size=0, seed=config.seed)
        return EncodedClients(shares.clients(rows, split, seed=config.seed)[0], _parts.encoder(config, model))
    return same_length(
        clients=config.clients_per_round,
        size=config.local_steps * config.batch_size,
        positions=config.example_positions,
        labels=config.example_labels,
        vocabulary=model.config.vocabulary,
        seed=config.seed,
    )
