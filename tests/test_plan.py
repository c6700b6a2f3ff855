"""The planner of resources: what it says beforehand is what the real round's program takes, and what a hand counts."""

import dataclasses
import importlib.util
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import perfit_jax as pf
import profit_jax as pj
from launch import _needs
from profit_jax import optim
from profit_jax.backbone import Backbone
from profit_jax.errors import InputError
from profit_jax.experiment.chips import CHIPS, GIB, Chip, Topology
from profit_jax.experiment.plan import (
    Bounds,
    Exchange,
    Memory,
    Needs,
    bounds,
    bytes_a_device,
    exchanges,
    model_flops,
    needs,
)
from profit_jax.experiment.program import Collective
from profit_jax.experiment.work import Work, work
from profit_jax.federated.mesh import over_clients
from tests import worlds
from tests.test_launchers import launch

CONFIG = worlds.CONFIG
V, D, L, F = CONFIG.vocabulary, CONFIG.width, CONFIG.layers, CONFIG.mlp_width
H, G, E, K = CONFIG.heads, CONFIG.key_value_heads, CONFIG.head_width, 3
MATRICES = D * E * (2 * H + 2 * G) + 3 * D * F  # of a block
NORMS = (2 * L + 1) * D


def adam():
    return optim.optimizer("adam", learning_rate=0.1)


def fed_avg(model: Backbone):
    return pj.fed_avg(model.loss, client_optimizer=adam(), server_optimizer=adam())


def planned(lanes: int):
    drawn = worlds.batches(worlds.encoded(worlds.clients([6] * 8)), range(8), steps=2, batch=3)
    return worlds.plan(range(8), drawn, lanes=lanes, positions_per_flight=64)


@pytest.fixture(scope="module")
def found():
    """A plan for eight devices: its mesh, and what it says."""
    mesh = pj.mesh("clients:4,model:2", Topology.parse("cpu:8").devices())
    model = Backbone.abstract(CONFIG, mesh=mesh)
    adapter = jax.eval_shape(worlds.prompt)
    return mesh, needs(fed_avg(model), adapter, planned(4).cohort, mesh)


@pytest.mark.parametrize(("quantize", "byte"), [("", 4), ("int8", 1)])
def test_weights_of_a_device_are_its_share_of_every_matrix_and_all_norms(quantize, byte):
    mesh = pj.mesh("clients:4,model:2")
    matrices = byte * L * MATRICES // 2
    # A scale for each output channel: those of q, k, v, gate and up are shared, those of o and down are whole.
    scales = 4 * L * ((H * E + 2 * G * E + 2 * F) // 2 + 2 * D) if quantize else 0
    expected = matrices + scales + 4 * V * D // 2 + 4 * NORMS
    assert bytes_a_device(Backbone.abstract(CONFIG, quantize=quantize, mesh=mesh).frozen) == expected


def test_the_total_is_the_memory_of_the_program_of_the_real_round(found):
    mesh, plan = found
    model = Backbone.random(CONFIG, mesh=mesh)
    algorithm, cohort = fed_avg(model), over_clients(planned(4).cohort, mesh)
    state = algorithm.start(worlds.prompt(), mesh)
    real = algorithm.compiled.lower(model.frozen, state, cohort).compile().memory_analysis()
    kept = real.argument_size_in_bytes + real.output_size_in_bytes - real.alias_size_in_bytes
    assert plan.memory.total == kept + real.temp_size_in_bytes + real.generated_code_size_in_bytes
    assert plan.memory.weights == held(model.frozen) and plan.memory.cohort == held(cohort)
    assert plan.memory.state == held(state)
    # The prompt and Adam's two moments; of Adam two counters and its rate, the clients' rate, and the round.
    assert plan.memory.state == 4 * (3 * K * D + 5)


def held(tree) -> int:
    """Bytes of real arrays at the first device."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def test_between_clients_goes_the_prompt_once_and_nothing_else_of_size(found):
    sent = [each for each in found[1].exchanges if "clients" in each.axes]
    assert [each.kind for each in sent] == ["all-reduce"] * len(sent)
    assert 4 * K * D <= sum(each.bytes for each in sent) <= 2 * 4 * K * D


def test_along_model_every_flight_and_prompt_sums_the_residual_stream_and_gathers_nothing(found):
    along = [each for each in found[1].exchanges if each.axes == ("model",)]
    assert [each.kind for each in along] == ["all-reduce"]
    plan = planned(4)
    steps, clients = 2, 2  # of a lane
    stream = 4 * D * (plan.computed_positions // 4 + steps * clients * K)
    rows, chunks = plan.cohort.batches, plan.cohort.used.chunks
    labels = 4 * (D + 3) * int(chunks.sum()) * rows.label_at.shape[-1]  # slopes; the largest logit, a sum, the token's
    # Behind o and down forward; before q, k, v and before gate and up backward, each of these products by itself.
    assert 4 * L * stream <= along[0].bytes <= 8 * L * stream + labels


def test_a_personal_state_is_divided_among_clients_and_planned_without_values():
    mesh, clients, rank = pj.mesh("clients:4,model:2"), 8, 2
    model = Backbone.abstract(CONFIG, mesh=mesh)
    lora = jax.eval_shape(lambda: pj.lora(model, rank=rank))
    method = pf.perfit(model.loss, pf.Masks.of_ranks(lora, [1] * clients), client_optimizer=adam())
    coordinates = L * (3 * D + (H + 2 * G) * E)
    state = method.abstract(lora, mesh)
    assert bytes_a_device(state) == clients // 4 * coordinates * (4 + 4) + 4 + 4
    real = pj.lora(worlds.backbone(), rank=rank, init="gaussian")
    started = pf.perfit(worlds.backbone().loss, pf.Masks.of_ranks(real, [1] * clients), client_optimizer=adam())
    same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, state, started.init(real))
    assert all(jax.tree.leaves(same))


def test_the_products_of_a_forward_pass_are_those_counted_by_hand():
    tokens = jnp.zeros((5, 7), jnp.int32)
    model = Backbone.abstract(CONFIG)
    counted = work(lambda frozen: dataclasses.replace(model, frozen=frozen).logits(tokens), model.frozen)
    attention = 2 * 2 * 5 * 7 * 7 * H * E  # every position looks at every other: scores, and values
    assert counted.flops == 2 * 5 * 7 * (L * MATRICES + V * D) + L * attention


def test_the_planned_arithmetic_is_what_positions_cost_and_a_little_more(found):
    """4 N a position computed and 4 V D a label; and attention; then the prompt's placing, and its gradient."""
    plan = planned(4)
    rows, chunks = plan.cohort.batches, plan.cohort.used.chunks
    positions, labels = plan.computed_positions // 4, int(chunks.sum()) * rows.label_at.shape[-1]
    products = 4 * L * MATRICES * positions + 4 * V * D * labels
    # In each window every position with every other, and with the prompt: two products forward, five backward.
    lengths, counts = plan.shape.width * np.array(plan.shape.windows), plan.cohort.used.windows.sum((0, 1))
    looks = int(np.sum(counts * lengths * (lengths + K)))
    attention = 14 * L * H * E * looks
    assert 1 <= 2 * found[1].work.flops / (products + attention) < 1.1


def test_model_flops_count_positions_and_labels_that_exist():
    plan, data = planned(1), worlds.encoded(worlds.clients([6] * 8))
    drawn = worlds.batches(data, range(8), steps=2, batch=3)
    examples = [example for client in drawn for step in client for example in step]
    positions = sum(len(query) + len(target) - 1 for query, target in examples)
    labels = sum(len(target) for _, target in examples)
    assert model_flops(CONFIG, plan) == 4 * L * MATRICES * positions + 4 * V * D * labels


def test_exchanges_run_as_often_as_their_loops():
    layers = Collective("all-reduce", ("model",), bytes=10, loops=(2, None, 5))
    labels = Collective("all-gather", ("model",), bytes=1, loops=(2, None, None))
    once = Collective("all-reduce", ("clients",), bytes=7)
    found = exchanges([layers, layers, labels, once], 3.5, 4.0)
    assert found == (
        Exchange("all-gather", ("model",), 28, 28),
        Exchange("all-reduce", ("clients",), 1, 7),
        Exchange("all-reduce", ("model",), 70, 700),
    )


CHIP = Chip(memory=100, flops=50.0, bandwidth=20.0, link=2.0)


@pytest.mark.parametrize(
    ("kind", "axes", "seconds"),
    [
        ("all-reduce", ("model",), 2 * 3 / 4 * 16 / 2),
        ("all-gather", ("model",), 3 / 4 * 16 / 2),
        ("all-reduce", ("clients", "model"), 2 * 31 / 32 * 16 / 2),
        ("collective-permute", ("model",), 16 / 2),
    ],
)
def test_the_roofline_by_hand(kind, axes, seconds):
    need = Needs(Memory(1, 2, 3, 4), Work(flops=500, bytes=100), (Exchange(kind, axes, 1, 16),))
    assert bounds(need, CHIP, {"clients": 8, "model": 4}) == Bounds(10, 5, pytest.approx(seconds))
    assert bounds(need, CHIP, {"clients": 8, "model": 4}).binding == ("collectives" if seconds > 10 else "compute")


REFUSED = {
    "arguments too": "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 2.50G of 15.75G hbm.",
    "HLO temporaries": "the total memory required for HLO temporaries (2.50G) exceeds available HBM (15.75G).",
}


@pytest.mark.parametrize("said", REFUSED)
def test_a_round_too_large_to_compile_is_planned_with_what_the_compiler_asks_for(said):
    mesh = pj.mesh("clients:4,model:2")
    plan = needs(refused(REFUSED[said], mesh), jax.eval_shape(worlds.prompt), planned(4).cohort, mesh)
    assert plan.memory.total == int(2.5 * GIB) and not plan.fits(CHIPS["v5e"])


def test_a_compiler_that_gives_up_otherwise_says_why():
    mesh = pj.mesh("clients:4,model:2")
    with pytest.raises(InputError, match="does not compile for this mesh: UNIMPLEMENTED: no such thing"):
        needs(refused("UNIMPLEMENTED: no such thing", mesh), jax.eval_shape(worlds.prompt), planned(4).cohort, mesh)


def refused(said: str, mesh):
    """An algorithm that does not compile."""

    def fail():
        raise jax.errors.JaxRuntimeError(said)

    algorithm = fed_avg(Backbone.abstract(CONFIG, mesh=mesh))
    lowered = types.SimpleNamespace(compile=fail)
    algorithm.__dict__["compiled"] = types.SimpleNamespace(lower=lambda *_: lowered)
    return algorithm


def test_remedies_say_which_of_them_suffice():
    config = ConfigDict({"dtype": "float32", "quantize": "", "remat": False, "positions_per_flight": 64})
    need = Needs(Memory(40, 1, 1, 70), Work(1, 1), ())
    said = _needs.remedies(config, need, 10, {"clients": 2, "model": 4}, CHIP)
    fitting = {line.split()[0] for line in said.splitlines() if line.endswith("fits")}
    assert fitting == {
        "--config.dtype=bfloat16",
        "--config.quantize=int8",
        "--config.positions_per_flight=32",
        "--mesh=clients:1,model:8",
    }
    assert "--config.remat=True" in said


BAD = {
    "v5e": "give CHIP:SHAPE, such as v5e:4x8",
    "v5e:4x0": "give CHIP:SHAPE",
    "h100:8": "unknown chip 'h100'; known: v4, v5e, v5p, v6e, cpu",
    "cpu:9": "this process has 8 CPU devices",
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_topology_is_one_line(text):
    with pytest.raises(InputError, match=re.escape(BAD[text])):
        Topology.parse(text).devices()


def test_without_libtpu_a_tpu_is_refused_with_the_extra_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape("pip install 'profit-jax[plan]'")):
        Topology.parse("v5e:4x8").devices()


PROFIT = ["--config=configs/profit/debug.py", "--topology=cpu:4", "--example_positions=40", "--example_labels=4"]


def test_the_launcher_prints_the_table_of_a_config():
    done = launch("plan", *PROFIT, "--config.model=tiny", "--mesh=clients:2,model:2", "--config.local_steps=1")
    assert done.returncode == 0, done.stderr
    for name in ("weights", "state", "cohort", "temporaries", "total", "model FLOPs", "traffic"):
        assert re.search(rf"^  {name} +[\d.e+]+", done.stdout, re.MULTILINE), done.stdout
    assert "GiB over clients, 1 times" in done.stdout and "over model" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config.model=tiny", "--mesh=clients:8"], "asks for 8 devices; there are 4"),
        (["--config.model=tiny", "--mesh=clients:2"], "has 2 devices, topology cpu:4 4"),
        (["--mesh=clients:4"], "give either --config.model=FOLDER or --shape"),
    ],
)
def test_the_launcher_refuses_in_one_line(arguments, said):
    done = launch("plan", *PROFIT, *arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("slice", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_a_round_compiles_for_a_tpu_that_is_not_there(slice):
    pytest.importorskip("libtpu")
    topology = Topology.parse(slice)
    mesh = pj.mesh("clients:2,model:2", topology.devices())
    model = Backbone.abstract(CONFIG, dtype="bfloat16", remat=True, mesh=mesh)
    plan = needs(fed_avg(model), jax.eval_shape(worlds.prompt), planned(2).cohort, mesh)
    assert plan.fits(topology.chip) and plan.memory.temporaries > 0
    assert [each.kind for each in plan.exchanges] == ["all-reduce"] * len(plan.exchanges)
    assert np.isfinite(bounds(plan, topology.chip, mesh.shape)).all()
