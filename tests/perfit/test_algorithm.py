"""PerFIT's rounds against Algorithm 2 by plain loops over clients, steps, examples and coordinates."""

import functools
import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perfit_jax as pf
import profit_jax as pj
from profit_jax.errors import InputError
from profit_jax.experiment.program import collectives
from profit_jax.federated import fed_avg
from profit_jax.federated.mesh import mesh, over_clients, place_state
from tests import worlds
from tests.perfit import plain

DATA = worlds.encoded(worlds.clients((7, 5, 9, 6, 4, 8, 5, 6)))
RATE = 0.3
LORA = plain.adapter()
MASKS = plain.random_masks(LORA, (0.5, 0.3, 0.6, 0.4, 0.2, 0.7, 0.5, 0.3))
DENSE = np.stack([MASKS.dense(client) for client in range(8)])
# Two rounds of three clients of eight: client 0 takes part in both, client 7 in none.
COHORTS = ([2, 0, 3], [0, 6, 4])
WEIGHTS = [1.0, 5.0, 2.0]


def halves(round):
    return 0.5**round


@functools.cache
def _method(dispatch: str, optimizer):
    return pf.perfit(
        plain.bigrams(), MASKS, client_optimizer=optimizer(RATE), client_schedule=halves, dispatch=dispatch
    )


def method(dispatch: str = "selected", optimizer=optax.sgd):
    """Compiled once for all tests. The clients' rate is halved in every round, so that rounds are told apart."""
    return _method(dispatch, optimizer)


def drawn(chosen: Sequence[int], seed: int, steps: int = 2):
    return worlds.batches(DATA, chosen, steps=steps, batch=3, seed=seed)


@functools.cache
def planner(**changes):
    return plain.planner(**changes)


def cohorts(weights: Sequence[float] | None = WEIGHTS, **changes):
    return [
        planner(**changes)(chosen, drawn(chosen, seed).__getitem__, weights).cohort
        for seed, chosen in enumerate(COHORTS)
    ]


def by_loops(gradient, masks: np.ndarray, like, dispatch: str, rounds, rates):
    """Algorithm 2: every client's dense module after rounds of `(client -> steps, client -> weight)`, and losses."""
    held = np.where(masks, plain.flat(like)[None], 0).astype(np.float64)
    losses = []
    for (steps, weight), rate in zip(rounds, rates):
        trained: dict[int, np.ndarray] = {}
        losses.append({})
        for client, batches in steps.items():
            own = held[client].copy()
            for batch in batches:
                loss, slope = gradient(own, like, batch)
                losses[-1].setdefault(client, []).append(loss)
                own -= rate * slope * masks[client]
            trained[client] = own
        after = plain.aggregated(trained, {client: masks[client] for client in trained}, weight)
        for client, own in after.items():
            held[client] = own
        if dispatch == "global":  # who starts the next round takes what its coordinates have become
            for client in range(len(held)):
                for j in np.flatnonzero(masks[client]):
                    owners = [k for k in after if masks[k][j]]
                    held[client][j] = after[owners[0]][j] if owners else held[client][j]
    return held, losses


@pytest.mark.parametrize("dispatch", ["selected", "global"])
def test_rounds_equal_loops_over_clients_and_coordinates(dispatch):
    """Two rounds of SGD, partial participation, unequal weights: every client's module, and what is recorded."""
    state, stats = plain.run(method(dispatch), LORA, cohorts())
    rounds = [
        (dict(zip(chosen, drawn(chosen, seed))), dict(zip(chosen, WEIGHTS))) for seed, chosen in enumerate(COHORTS)
    ]
    before, _ = by_loops(plain.bigram_gradient, DENSE, LORA, dispatch, rounds[:1], [RATE])
    wanted, losses = by_loops(plain.bigram_gradient, DENSE, LORA, dispatch, rounds, [RATE, RATE / 2])
    np.testing.assert_allclose(plain.dense(method(dispatch), state, 8), wanted, **plain.CLOSE)
    assert int(state.round) == 2
    tokens = {c: [sum(len(y) for _, y in step) for step in steps] for c, steps in rounds[1][0].items()}
    mean = np.average(np.concatenate([losses[1][c] for c in tokens]), weights=np.concatenate([*tokens.values()]))
    np.testing.assert_allclose(stats[1].loss.value, mean, rtol=1e-5)
    last = COHORTS[1]
    norms = np.linalg.norm(wanted[last], axis=1), np.linalg.norm(wanted[last] - before[last], axis=1)
    np.testing.assert_allclose(stats[1].adapter_norm, np.sqrt(np.mean(norms[0] ** 2)), rtol=1e-5)
    np.testing.assert_allclose(stats[1].change_norm, np.sqrt(np.mean(norms[1] ** 2)), rtol=1e-4)


def test_the_two_dispatches_differ_only_for_clients_outside_the_cohort():
    selected, everyone = (
        plain.dense(method(d), plain.run(method(d), LORA, cohorts()[:1])[0], 8) for d in ("selected", "global")
    )
    np.testing.assert_array_equal(selected[COHORTS[0]], everyone[COHORTS[0]])
    outside = [client for client in range(8) if client not in COHORTS[0]]
    start = np.where(DENSE, plain.flat(LORA)[None], 0)
    np.testing.assert_array_equal(selected[outside], start[outside])
    # Under `global` a coordinate is new for all its owners if the cohort trained it, and for no one else.
    moved = DENSE[COHORTS[0]].any(0)
    np.testing.assert_array_equal((everyone != start)[outside] & ~(DENSE & moved[None])[outside], False)
    for j in np.flatnonzero(moved):
        assert len(set(everyone[DENSE[:, j], j].tolist())) == 1


@pytest.mark.parametrize(("dispatch", "optimizer"), [("selected", optax.adam), ("global", optax.sgd)])
def test_nothing_but_owned_coordinates_ever_moves(dispatch, optimizer):
    """Four rounds of both cohorts; Adam's steps do not shrink with the gradient."""
    algorithm = method(dispatch, optimizer)
    state, _ = plain.run(algorithm, LORA, cohorts() * 2)
    after, start = plain.dense(algorithm, state, 8), np.where(DENSE, plain.flat(LORA)[None], 0)
    assert not after[~DENSE].any()
    for client in {*COHORTS[0], *COHORTS[1]}:
        owned = plain.factors(DENSE[client], LORA)
        # A column of A has no gradient if nothing is owned of the row of B that it goes through, and the reverse.
        reached = {
            t: {
                "a": np.broadcast_to(f["b"].any(2)[:, None], f["a"].shape),
                "b": np.broadcast_to(f["a"].any(1)[:, :, None], f["b"].shape),
            }
            for t, f in owned["lora"].items()
        }
        assert (after[client] != start[client])[DENSE[client] & plain.flat({"lora": reached})].all()
    if dispatch == "selected":
        never = [client for client in range(8) if client not in {*COHORTS[0], *COHORTS[1]}]
        assert never == [1, 5, 7]
        np.testing.assert_array_equal(after[never], start[never])


def test_a_client_optimizer_starts_afresh_in_every_round():
    """With Adam at the clients, a second round from the modules of the first repeats it."""
    algorithm, (first, _) = method("selected", optax.adam), cohorts()
    once, _ = plain.run(algorithm, LORA, [first])
    used, _ = plain.run(algorithm, LORA, [first])
    again, _ = algorithm.round(
        used._replace(adapter=algorithm.init(LORA).adapter, round=jnp.zeros((), jnp.int32)), first
    )
    np.testing.assert_array_equal(once.adapter, again.adapter)


def test_the_schedule_multiplies_the_updates_of_a_round():
    """One step of SGD: what round 3 changes is an eighth of what round 0 changes."""
    cohort = planner()(COHORTS[0], drawn(COHORTS[0], seed=0, steps=1).__getitem__, WEIGHTS).cohort
    start, changes = np.asarray(method().init(LORA).adapter), []
    for round in (0, 3):
        state, _ = method().round(method().init(LORA)._replace(round=jnp.asarray(round, jnp.int32)), cohort)
        changes.append(np.asarray(state.adapter) - start)
    assert np.abs(changes[0]).max() > 0.01
    # A mean of three numbers below 4, each rounded as it is made, weighed, added and divided: 5 times 2^-23.
    np.testing.assert_allclose(changes[1], changes[0] / 8, rtol=0, atol=2 * 5 * 2.0**-23)


@functools.cache
def _perfit_and_fit():
    loss, clients = plain.bigrams(), {"client_optimizer": optax.sgd(RATE), "client_schedule": halves}
    ones = pf.Masks.of_ranks(LORA, [4] * 8)
    return pf.perfit(loss, ones, dispatch="global", **clients), fed_avg(
        loss, server_optimizer=optax.sgd(1.0), **clients
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_with_masks_of_ones_perfit_is_fed_avg_with_a_server_of_sgd_one(weights):
    """Four rounds under `global`: what every client holds is the global adapter. (And FIT is that FedAvg.)"""
    perfit, fit = _perfit_and_fit()
    state, ours = plain.run(perfit, LORA, cohorts(weights) * 2)
    wanted, theirs = plain.run(fit, LORA, cohorts(weights) * 2)
    flat = plain.flat(wanted.adapter)
    np.testing.assert_allclose(plain.dense(perfit, state, 8), np.tile(flat, (8, 1)), **plain.CLOSE)
    for own, other in zip(ours, theirs):
        np.testing.assert_allclose(own.loss.value, other.loss.value, rtol=1e-5)
        np.testing.assert_allclose(own.client_gradient_norm.value, other.client_gradient_norm.value, rtol=1e-5)
        np.testing.assert_allclose(own.adapter_norm, other.adapter_norm, rtol=1e-5)
        np.testing.assert_allclose(own.change_norm, other.change_norm, rtol=1e-4)


@functools.cache
def reference() -> np.ndarray:
    """One lane, one flight."""
    return plain.dense(method("global"), plain.run(method("global"), LORA, cohorts())[0], 8)


LAYOUTS = {
    "rows longer than texts": {"row_width": 96},
    "texts over rows, two lanes, a place left empty, in flights": {
        "lanes": 2,
        "row_width": 5,
        "positions_per_flight": 48,
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_changes_nothing(layout):
    state, _ = plain.run(method("global"), LORA, cohorts(**LAYOUTS[layout]))
    np.testing.assert_allclose(plain.dense(method("global"), state, 8), reference(), **plain.CLOSE)


@pytest.mark.parametrize("lanes", [2, 8])
def test_sharded_over_devices_equals_one_device(lanes):
    """Three clients on eight devices leave five of them without any."""
    state, _ = plain.run(method("global"), LORA, cohorts(lanes=lanes), mesh(f"clients:{lanes}"))
    np.testing.assert_allclose(plain.dense(method("global"), state, 8), reference(), **plain.CLOSE)


def test_rounds_of_other_cohorts_compile_nothing():
    algorithm = method()
    state, _ = plain.run(algorithm, LORA, cohorts()[:1])
    programs = algorithm.compiled._cache_size()
    for seed, chosen in enumerate(([1, 5, 7], [4, 6, 0], [7, 2, 1])):
        state, _ = algorithm.round(state, planner()(chosen, drawn(chosen, seed).__getitem__, WEIGHTS).cohort)
    assert algorithm.compiled._cache_size() == programs
    assert int(state.round) == 4


@functools.cache
def _through_the_decoder():
    """PerFIT on the small world's decoder: eight clients, one step of each."""
    like = plain.adapter(worlds.backbone)
    masks = plain.random_masks(like, (0.5, 0.3, 0.6, 0.4, 0.2, 0.7, 0.5, 0.3))
    chosen = [5, 0, 3, 6, 1, 7, 2, 4]
    steps = worlds.batches(DATA, chosen, steps=2, batch=3)
    return pf.perfit(worlds.backbone().loss, masks, client_optimizer=optax.sgd(RATE)), like, masks, chosen, steps


@functools.cache
def over_eight_devices():
    """The compiled round of eight clients on eight devices, and what every client holds after it."""
    algorithm, like, _, chosen, steps = _through_the_decoder()
    on = mesh("clients:8")
    cohort = over_clients(
        plain.planner(lanes=8, positions_per_flight=64)(chosen, steps.__getitem__, range(1, 9)).cohort, on
    )
    state = place_state(algorithm.init(like), on)
    frozen = place_state(algorithm.loss.frozen, on)
    program = algorithm.compiled.lower(frozen, state, cohort).compile()
    state, _ = program(frozen, state, cohort)
    return program.as_text(), plain.dense(algorithm, state, 8)


def test_a_sharded_round_through_the_decoder_equals_loops_over_clients():
    _, like, masks, chosen, steps = _through_the_decoder()
    rounds = [(dict(zip(chosen, steps)), dict(zip(chosen, range(1, 9))))]
    owned = np.stack([masks.dense(client) for client in range(8)])
    wanted, _ = by_loops(plain.decoder_gradient, owned, like, "selected", rounds, [RATE])
    np.testing.assert_allclose(over_eight_devices()[1], wanted, **plain.CLOSE)


def test_no_collective_stands_inside_a_loop_of_the_round():
    """Devices speak with one another once a round, after the loops over steps and flights."""
    found = collectives(over_eight_devices()[0], {"clients": 8})
    assert found and not any(each.loops for each in found)


def test_a_vanilla_lora_is_the_identity_on_the_backbone_and_a_gaussian_is_not():
    backbone, (steps,) = worlds.backbone(), drawn([2], 0, steps=1)
    rows = jax.tree.map(
        lambda leaf: jnp.asarray(leaf[0, 0, 0]), plain.planner()([2], [steps].__getitem__).cohort.batches
    )
    loss = jax.jit(backbone.loss)  # one program for both

    def of(init: str) -> float:
        like = plain.adapter(worlds.backbone, init=init)
        return float(loss(backbone.frozen, jax.tree.map(lambda leaf: leaf[None], like), rows)[0])

    like = plain.adapter(worlds.backbone)
    without, _ = plain.decoder_gradient(np.zeros(len(plain.flat(like))), like, steps[0])
    np.testing.assert_allclose(of("vanilla"), without, rtol=1e-6)
    assert abs(of("gaussian") - without) > 0.01


def test_a_round_exchanges_four_bytes_for_every_owned_coordinate(tmp_path):
    workdir = pj.Workdir(tmp_path / "run", {})
    result = pj.train(
        method(),
        LORA,
        worlds.clients((7, 5, 9, 6, 4, 8, 5, 6)),
        rounds=2,
        clients_per_round=3,
        local_epochs=1,
        batch_size=5,
        reduction="token",
        weighting="examples",
        encoder=plain.encoder(),
        layout=plain.layout(),
        workdir=workdir,
        progress=False,
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "cohorts.jsonl").read_text().splitlines()]
    assert len(rows) == len(result.history) == 2
    for row, recorded in zip(rows, result.history):
        wanted = [4 * int(DENSE[client].sum()) for client in row["clients"]]
        assert len(set(row["clients"])) == 3
        assert row["bytes_up"] == row["bytes_down"] == wanted
        assert recorded["bytes_up"] == recorded["bytes_down"] == sum(wanted)


def test_an_unknown_dispatch_is_refused():
    with pytest.raises(InputError, match="'selected' or 'global', not 'all'"):
        pf.perfit(plain.bigrams(), MASKS, client_optimizer=optax.sgd(RATE), dispatch="all")
