"""A mesh changes no number: the same runs on meshes of every shape, and the errors of a mesh that cannot be."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perfit_jax as pf
import profit_jax as pj
from profit_jax.adapters import lora
from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_tokens
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir
from profit_jax.federated.mesh import axis_sizes, mesh, over_clients
from tests import worlds
from tests.perfit import plain

SIZES = (7, 5, 9, 6, 4, 8, 5, 6)
DATA = worlds.encoded(worlds.clients(SIZES))
CHOSEN = [5, 0, 3, 6, 1, 7, 2, 4]
DRAWN = worlds.batches(DATA, CHOSEN, steps=2, batch=3)
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
SHARES = (0.5, 0.3, 0.6, 0.4, 0.2, 0.7, 0.5, 0.3)

# Eight heads divide whatever the mesh; three key-value heads, 26 features and 33 words divide by no 2, 4 or 8.
EVEN = dataclasses.replace(worlds.CONFIG, heads=8, key_value_heads=8)
UNEVEN = dataclasses.replace(worlds.CONFIG, heads=6, key_value_heads=3, mlp_width=26, vocabulary=33)
PARALLEL = dataclasses.replace(EVEN, key_value_heads=1, parallel=True, norm="layer", biases=("norm", "o", "q"))
CONFIGS = {"even": EVEN, "uneven": UNEVEN, "parallel": PARALLEL}
RATE = 0.3


def small_lora(backbone: Backbone):
    return lora(backbone, rank=2, targets=TARGETS, init="gaussian", deviation=0.2, seed=3)


def perfit(backbone: Backbone):
    adapter = small_lora(backbone)
    masks = plain.random_masks(adapter, SHARES)
    return pf.perfit(backbone.loss, masks, client_optimizer=optax.sgd(RATE)), adapter


def averaged(backbone: Backbone):
    return pj.fed_avg(backbone.loss, client_optimizer=optax.sgd(RATE), server_optimizer=optax.sgd(1.0))


RUNS = {
    "fed_avg": lambda backbone: (averaged(backbone), worlds.prompt()),
    "fed_sgd": lambda backbone: (pj.fed_sgd(backbone.loss, server_optimizer=optax.sgd(1.0)), worlds.prompt()),
    "centralized": lambda backbone: (pj.centralized(backbone.loss, optimizer=optax.sgd(RATE)), worlds.prompt()),
    "local": lambda backbone: (pj.local(backbone.loss, optimizer=optax.sgd(RATE), clients=8), worlds.prompt()),
    "fit": lambda backbone: (averaged(backbone), small_lora(backbone)),
    "perfit": perfit,
}


@functools.cache
def backbone(config: str, text: str = "") -> Backbone:
    return Backbone.random(CONFIGS[config], tokenizer=worlds.Letters(), mesh=mesh(text) if text else None)


@functools.cache
def after(run: str, config: str, text: str = "") -> np.ndarray:
    """Every client's adapter after two rounds, one after another; on one device without a mesh."""
    model = backbone(config, text)
    algorithm, adapter = RUNS[run](model)
    lanes = model.mesh.shape["clients"] if text else 1
    cohort = worlds.plan(CHOSEN, DRAWN, weights=range(1, 9), lanes=lanes, positions_per_flight=96).cohort
    state, cohort = algorithm.start(adapter, model.mesh), over_clients(cohort, model.mesh) if text else cohort
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    for _ in range(2):
        state, _ = algorithm.round(state, cohort)
    if text:
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == places, "a state stays where it is"
        assert algorithm.compiled._cache_size() == 1, "the second round is the first one's program"
    leaves = jax.tree.leaves(jax.device_get(algorithm.adapters(state, jnp.arange(8))))
    return np.concatenate([leaf.reshape(8, -1) for leaf in leaves], axis=1)


QUICK = [
    ("fed_avg", "even", "clients:8"),
    ("fed_avg", "even", "clients:4,model:2"),
    ("fed_avg", "even", "clients:2,model:4"),
    ("fed_avg", "even", "model:8"),
    ("fed_avg", "uneven", "clients:2,model:4"),
    ("fed_sgd", "even", "model:2"),
    ("centralized", "even", "clients:2,model:2"),
    ("local", "parallel", "clients:4,model:2"),
    ("fit", "even", "clients:2,model:4"),
    ("perfit", "even", "clients:2,model:2"),
]
MESHES = ("clients:2", "model:4", "clients:8", "clients:4,model:2", "clients:2,model:4", "model:8")
EVERY = [(run, config, text) for run in RUNS for config in CONFIGS for text in MESHES]


def check(run: str, config: str, text: str) -> None:
    expected = after(run, config)
    np.testing.assert_allclose(after(run, config, text), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("run", "config", "text"), QUICK)
def test_a_run_is_the_same_on_every_mesh(run, config, text):
    check(run, config, text)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "config", "text"), [each for each in EVERY if each not in QUICK])
def test_every_run_is_the_same_on_every_mesh(run, config, text):
    check(run, config, text)


@pytest.mark.parametrize(("config", "text"), [("even", "clients:2,model:4"), ("uneven", "clients:4,model:2")])
def test_answers_are_the_same_on_every_mesh(config, text):
    """Greedy ones, and drawn ones from all tokens and from a nucleus."""
    draw = np.random.default_rng(0)
    asked = [draw.integers(2, 29, length).astype(np.int32) for length in range(1, 12)]
    prompts = {"prompt": jnp.stack([worlds.prompt(seed=seed)["prompt"] for seed in range(3)])}

    def answers(text: str, **drawn: float) -> list[list[int]]:
        model = backbone(config, text)
        clients, settings = [i % 3 for i in range(11)], {"new_tokens": 5, "end_tokens": (1,), **drawn}
        found = generate_tokens(model.graph, model.frozen, prompts, asked, clients, mesh=model.mesh, **settings)
        return [answer.tolist() for answer in found]

    for drawn in ({}, {"temperature": 0.8, "seed": 1}, {"temperature": 0.8, "top_p": 0.7}):
        assert answers(text, **drawn) == answers("", **drawn)


@pytest.mark.parametrize("text", ["clients:2,model:2"])
def test_masks_and_perplexity_are_the_same_on_every_mesh(text):
    """Rounding may differ, but decides nothing here."""

    def found(text: str) -> tuple[np.ndarray, list[float]]:
        model = backbone("even", text)
        shared = {
            "encoder": plain.encoder(),
            "layout": plain.layout(lanes=model.mesh.shape["clients"] if text else 1),
            "mesh": model.mesh,
        }
        clients = worlds.clients(SIZES[:4])
        masks = pf.search(model, clients, rank=2, metric="mixed", epochs=2, progress=False, **shared)
        method = pf.perfit(model.loss, masks, client_optimizer=optax.sgd(RATE))
        measured = pf.Perplexity(method, clients, **shared)(method.start(masks.adapter, model.mesh))
        return masks.bitmaps, [row["nll"] for row in measured.clients]

    (masks, nll), (expected, expected_nll) = found(text), found("")
    np.testing.assert_array_equal(masks, expected)
    np.testing.assert_allclose(nll, expected_nll, rtol=1e-5)


def test_a_run_goes_on_on_another_mesh(tmp_path):
    """Two rounds on one mesh and two on another are four on one device, and the records of one run."""

    def train(rounds: int, text: str, workdir: Workdir | None = None):
        model = backbone("even", text)
        return pj.train(
            averaged(model),
            worlds.prompt(),
            worlds.clients(SIZES),
            rounds=rounds,
            clients_per_round=4,
            local_steps=2,
            batch_size=3,
            encoder=plain.encoder(),
            layout=plain.layout(lanes=model.mesh.shape["clients"] if text else 1),
            mesh=model.mesh,
            workdir=workdir,
            progress=False,
        )

    train(2, "clients:2,model:2", Workdir(tmp_path / "run", {}))
    resumed, expected = train(4, "clients:4,model:2", Workdir(tmp_path / "run", {})), train(4, "")
    np.testing.assert_allclose(resumed.last["prompt"], expected.last["prompt"], rtol=1e-5, atol=1e-5)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([row["loss"] for row in rows], [row["loss"] for row in expected.history], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("clients:8,model:4", (8, 4)),
        ("model:4, clients:8", (8, 4)),
        ("clients:-1", (32, 1)),
        ("clients:-1,model:4", (8, 4)),
        ("clients:2,model:-1", (2, 16)),
        ("model:4", (1, 4)),
    ],
)
def test_a_mesh_is_read_from_text(text, sizes):
    assert tuple(axis_sizes(text, devices=32).values()) == sizes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clients:8,models:4", "'models' is not one of the axes clients, model"),
        ("", "'' is not one of the axes"),
        ("clients:8,clients:4", "'clients' is not one of the axes clients, model, each given once"),
        ("clients:8,model", "give model a size, as in model:4"),
        ("clients:eight", "give clients a size, as in clients:4"),
        ("clients:4:2", "give clients a size"),
        ("clients:0", "the size of clients must be positive, or -1"),
        ("clients:-2", "the size of clients must be positive, or -1"),
        ("clients:-1,model:-1", "only one axis can take the devices that are left"),
        ("clients:8,model:2", "asks for 16 devices; there are 8"),
        ("clients:-1,model:3", "asks for a multiple of 3 devices; there are 8"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(text, problem):
    with pytest.raises(InputError, match=problem) as raised:
        mesh(text)
    assert repr(text) in str(raised.value) and "\n" not in str(raised.value)


def test_devices_along_model_are_neighbours():
    made = mesh("clients:2,model:3")
    assert [[device.id for device in lane] for lane in made.devices] == [[0, 1, 2], [3, 4, 5]]
    assert dict(made.shape) == {"clients": 2, "model": 3}
    assert dict(mesh("model:2").shape) == {"clients": 1, "model": 2}
