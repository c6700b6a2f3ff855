"""What the round of a config needs on devices that are not there: memory, arithmetic, exchanges, and time at least.

    python -m launch.plan --config=configs/profit/paper.py:hhf,fed_avg_adam --shape=palm_8b --topology=v5e:4x8 \
        --mesh=clients:8,model:4
    python -m launch.plan --config=configs/perfit/paper.py:perfit,r16 --shape=llama2_7b --topology=v5e:4x4 \
        --mesh=clients:4,model:4
    python -m launch.plan --config=configs/profit/small.py --config.model=tiny --topology=cpu:8 \
        --mesh=clients:4,model:2

The real round is compiled, by libtpu (extra `plan`) for TPUs v4, v5e, v5p and v6e, by the CPU for cpu:N, N fake
devices. The model is `config.model`, of whose folder only config.json and the tokenizer are read, or one of
configs/shapes.py. The cohort is that of round 1 of the config's data; without a model's tokenizer, or without
`data_dir`, of examples of one length, `--example_positions`; those of the widest rows take most memory.

What is counted how:

    GiB a device         weights, state and cohort from their shapes; the total is the compiler's, temporaries the rest
    model FLOPs          4 N positions + 4 V D labels, of positions that exist; N weights of the blocks' matrices
    computed FLOPs       every matrix product of the round: with padding, attention, adapters, layers computed again
    traffic              what these products read and write, each array once
    exchanges            collectives in the compiled program, as often as their loops turn
    seconds              at the chip's peak rates: at least the longest of the three, about their sum where nothing
                         overlaps; without evaluation and PerFIT's search
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

import perfit_jax as pf
import profit_jax as pj
from configs.shapes import SHAPES
from launch import _costs, _needs, _parts, _perfit
from launch._main import define_config, define_mesh, run
from launch._same_length import same_length
from profit_jax.backbone.families import read_config
from profit_jax.backbone.model import folder_of
from profit_jax.backbone.tokenizer import load_tokenizer
from profit_jax.data.cohort import Plan, Planner
from profit_jax.data.encode import EncodedClients
from profit_jax.errors import InputError
from profit_jax.experiment import plan
from profit_jax.experiment.chips import Topology
from profit_jax.experiment.loop import Schedule
from profit_jax.federated import Algorithm
from profit_jax.typing import Adapter

CONFIG = define_config()
MESH = define_mesh()
TOPOLOGY = flags.DEFINE_string("topology", None, "Where to run: v5e:4x8, v5p:4x4x4, cpu:8.", required=True)
SHAPE = flags.DEFINE_enum("shape", None, [*SHAPES], "The model's shape, where there is no --config.model.")
POSITIONS = flags.DEFINE_integer(
    "example_positions", 128, "Of an example, its prompt included, where there are no data."
)
LABELS = flags.DEFINE_integer("example_labels", 16, "Target tokens of an example, where there are no data.")


def main(argv: Sequence[str]) -> None:
    """Plans."""
    del argv
    config, topology = CONFIG.value, Topology.parse(TOPOLOGY.value)
    mesh = mesh_on(topology)
    model = backbone(config, mesh)
    algorithm, adapter = method(config, model)
    planned = cohort(config, model, algorithm, mesh)
    needs = plan.needs(algorithm, adapter, planned.cohort, mesh)
    print(f"{config.get('algorithm') or config.method} of {SHAPE.value or config.model} on {topology}, {MESH.value}")
    print(_needs.layout(config, planned))
    print(_needs.memory(needs, topology.chip))
    print(_needs.work(needs, plan.model_flops(model.config, planned) / mesh.size))
    if topology.chip and not needs.fits(topology.chip):
        int8 = plan.bytes_a_device(backbone(config, mesh, quantize="int8").frozen)
        print(_needs.remedies(config, needs, int8, mesh.shape, topology.chip))
    elif topology.chip:
        print(_needs.times(config, plan.bounds(needs, topology.chip, mesh.shape)))


def mesh_on(topology: Topology) -> Mesh:
    """The mesh of `--mesh`, of all devices of the topology."""
    jax.config.update("jax_platforms", "cpu")  # an accelerator of this machine is left alone
    if topology.chip is None:
        jax.config.update("jax_num_cpu_devices", topology.size)
    mesh = pj.mesh(MESH.value, topology.devices())
    if mesh.size != topology.size:
        raise InputError(f"mesh {MESH.value!r} has {mesh.size} devices, topology {topology} {topology.size}; use all")
    return mesh


def backbone(config: ConfigDict, mesh: Mesh, **changed: str) -> pj.Backbone:
    """The abstract model of `config.model` or `--shape`."""
    if bool(config.model) == bool(SHAPE.value):
        raise InputError(f"give either --config.model=FOLDER or --shape, one of {', '.join(SHAPES)}")
    folder = folder_of(config.model) if config.model else None
    numbers = read_config(folder) if folder else _parts.shape(SHAPES[str(SHAPE.value)])
    fields: dict[str, Any] = {"dtype": config.dtype, "quantize": config.quantize, "remat": config.remat} | changed
    model = pj.Backbone.abstract(numbers, **fields, mesh=mesh)
    return dataclasses.replace(model, tokenizer=load_tokenizer(folder, numbers)) if folder else model


def method(config: ConfigDict, model: pj.Backbone) -> tuple[Algorithm, Adapter]:
    """The config's algorithm and the abstract adapter that it trains; where that starts makes no difference."""
    if "algorithm" in config:
        prompt = jax.eval_shape(lambda: pj.soft_prompt(model, length=config.prompt.length))
        return _parts.algorithm(config)(model.loss), prompt
    _perfit.check(config)
    ranks = [config.rank] * config.clients
    if config.method == "perfit":
        ranks = pf.budget(config.rank, tuple(config.sparsity), config.clients).tolist()
    rank = pf.expanded_rank(config.rank, tuple(config.sparsity)) if config.method == "perfit" else config.rank
    lora = jax.eval_shape(lambda: _perfit.lora(config, model, rank, "vanilla"))
    return _perfit.method(config, model, pf.Masks.of_ranks(lora, ranks), start=None)


def cohort(config: ConfigDict, model: pj.Backbone, algorithm: Algorithm, mesh: Mesh) -> Plan:
    """The first round's cohort."""
    schedule = Schedule(
        config.clients_per_round,
        config.get("local_steps") or 0,
        config.get("local_epochs") or 0,
        config.batch_size,
        config.seed,
        config.weighting,
        algorithm.pooled,
    )
    data = clients(config, model)
    planner = Planner(
        _parts.layout(config, mesh.shape["clients"]),
        reduction=config.reduction,
        steps=schedule.most_steps(data.sizes),
    )
    return schedule.plan(planner, data, 0)


def clients(config: ConfigDict, model: pj.Backbone) -> EncodedClients:
    """The training clients: of the config's data where there is a tokenizer for them."""
    profit = "algorithm" in config
    if model.tokenizer and (config.data_dir if profit else config.data):
        train = _parts.data(config).train if profit else _perfit.clients(config)[0]
        return EncodedClients(train, _parts.encoder(config, model))
    size = config.local_steps * config.batch_size if profit else _costs.of_client(config)[0]
    return same_length(
        clients=config.clients_per_round if profit else config.clients,
        size=size,
        positions=POSITIONS.value,
        labels=LABELS.value,
        vocabulary=model.config.vocabulary,
    )


if __name__ == "__main__":
    run(main)
