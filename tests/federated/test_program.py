"""What a compiled round costs: what devices send one another, its memory, its size."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import profit_jax as pj
from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import decode
from profit_jax.experiment.program import Collective, collectives, instructions
from profit_jax.federated.mesh import mesh, over_clients
from profit_jax.typing import Cohort, Queries, Tree
from tests import worlds
from tests.federated.test_mesh import CHOSEN, DATA, EVEN, RATE, RUNS, small_lora

# So many words that logits are larger than all that has to be sent.
CONFIG = dataclasses.replace(EVEN, vocabulary=1024)
STATISTICS = 64  # bytes: losses, norms, weights


class Program(NamedTuple):
    """A compiled round."""

    sent: list[Collective]
    state: Tree
    cohort: Cohort

    def over(self, axis: str) -> int:
        """Bytes that are sent along an axis in a round, a step's and a flight's as often as there are steps."""
        return sum(each.bytes * each.count for each in self.sent if axis in each.axes)


@functools.cache
def program(run: str, text: str) -> Program:
    """The round of eight clients with three local steps on a mesh."""
    on = mesh(text)
    backbone = Backbone.random(CONFIG, tokenizer=worlds.Letters(), mesh=on)
    algorithm, adapter = RUNS[run](backbone)
    layout = {"lanes": on.shape["clients"], "positions_per_flight": 64}
    drawn = worlds.batches(DATA, CHOSEN, steps=3, batch=3)
    state, cohort = algorithm.start(adapter, on), over_clients(worlds.plan(CHOSEN, drawn, **layout).cohort, on)
    text = algorithm.compiled.lower(backbone.frozen, state, cohort).compile().as_text()
    return Program(collectives(text, on.shape), state, cohort)


def size(tree: Tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


LORA = size(small_lora(Backbone.abstract(CONFIG)))


@pytest.mark.parametrize(
    ("run", "text"),
    [("fed_avg", "clients:8")] + [(run, "clients:2,model:4") for run in RUNS if run != "centralized"],
)
def test_local_training_sends_nothing_between_clients_and_only_sums_over_model(run, text):
    """Steps, flights and layers are loops. No weights and no logits are gathered: words are summed over by label.

    Only PerFIT gathers, once a step: the gradients of its clients' LoRAs, to take from them what each client owns.
    """
    made = program(run, text)
    inside = [each for each in made.sent if each.loops]
    assert all(each.axes == ("model",) for each in inside) and bool(inside) == ("model" in text)
    gathered = [each for each in inside if each.kind != "all-reduce"]
    assert {len(each.loops) for each in gathered} == ({1} if run == "perfit" else set())
    assert sum(each.bytes for each in gathered) <= made.cohort.client.size // 2 * LORA
    logits = 4 * CONFIG.vocabulary * made.cohort.batches.label_at.shape[-1]
    assert all(each.bytes < logits for each in made.sent)


@pytest.mark.parametrize(
    ("run", "text"), [("fed_avg", "clients:8"), ("fed_avg", "clients:2,model:4"), ("fit", "clients:2,model:4")]
)
def test_a_round_sends_its_adapter_and_a_few_numbers_between_clients(run, text):
    made = program(run, text)
    between = [each for each in made.sent if "clients" in each.axes]
    assert between and all(each.kind == "all-reduce" and not each.loops for each in between)
    assert 0 < made.over("clients") <= 2 * size(made.state.adapter) + STATISTICS


@pytest.mark.parametrize("run", ["local", "perfit"])
def test_a_round_of_personal_states_sends_what_its_clients_hold_between_clients(run):
    """From the lane that keeps a client to the one that trains it, and back; PerFIT's two sums of a coordinate too."""
    made = program(run, "clients:2,model:4")
    held = size((made.state.adapter, made.state.indices if run == "perfit" else made.state.optimizer))
    assert 0 < made.over("clients") <= 2 * held + (2 * LORA if run == "perfit" else 0) + STATISTICS


def test_answering_gathers_no_logits():
    """The likeliest word is that of the likeliest of each device's."""
    on, rows = mesh("clients:2,model:4"), 8
    backbone = Backbone.random(CONFIG, mesh=on)
    integer = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32, sharding=NamedSharding(on, P("clients")))
    queries = Queries(integer((rows, 16)), integer((rows,)), integer((rows,)))
    answer = jax.jit(functools.partial(decode, backbone.graph, new_tokens=4, end_tokens=(1,)))
    text = answer.lower(backbone.frozen, {"prompt": jnp.zeros((1, 3, CONFIG.width))}, queries).compile().as_text()
    found = collectives(text, on.shape)
    assert found and all(each.bytes < 4 * rows // 2 * CONFIG.vocabulary for each in found)


WIDE = dataclasses.replace(CONFIG, width=64, head_width=16, mlp_width=192)


@functools.cache
def cost(times: int = 1, layers: int = 2) -> tuple[int, int]:
    """Temporary bytes and instructions of a round of FedAvg, on flights of four texts; `times` eight clients.

    More clients have as many examples in all, since a step's rows are in memory as well.
    """
    on, chosen = mesh("clients:2,model:2"), range(8 * times)
    backbone = Backbone.abstract(dataclasses.replace(WIDE, layers=layers), mesh=on)
    algorithm = pj.fed_avg(backbone.loss, client_optimizer=optax.adam(RATE), server_optimizer=optax.adam(RATE))
    data = worlds.encoded(worlds.clients((24,) * 8))
    drawn = worlds.batches(data, range(8), steps=2, batch=12 // times) * times
    planned = worlds.plan(chosen, drawn, lanes=2, row_width=32, positions_per_flight=128)
    state = algorithm.start({"prompt": jnp.zeros((3, WIDE.width))}, on)
    program = algorithm.compiled.lower(backbone.frozen, state, over_clients(planned.cohort, on)).compile()
    return program.memory_analysis().temp_size_in_bytes, instructions(program.as_text())


def test_four_times_the_clients_take_no_more_memory_than_their_prompts_and_no_more_program():
    """A lane has a flight of 128 positions in memory, and its clients' prompts of 3 rows: first 4 of them, then 16."""
    (memory, length), (more, longer) = cost(), cost(times=4)
    assert more <= (128 + 16 * 3) / (128 + 4 * 3) * memory
    assert longer <= 1.15 * length


def test_four_times_the_layers_take_no_more_program():
    assert cost(layers=8)[1] <= 1.15 * cost()[1]
