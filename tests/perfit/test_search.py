"""The architecture search against Algorithm 1 by a plain loop, and what it must not depend on."""

import functools
import importlib
import itertools
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import perfit_jax as pf
from perfit_jax.groups import groups
from profit_jax import rng
from profit_jax.errors import InputError
from profit_jax.federated.mesh import mesh
from tests import worlds
from tests.perfit import plain

module = importlib.import_module("perfit_jax.search")  # the package's `search` is the function

CLIENTS = worlds.clients()  # of 7, 5, 9 and 6 examples
SETTINGS: dict[str, Any] = {
    "rank": 2,
    "epochs": 2,
    "batch_size": 3,
    "seed": 3,
    "encoder": plain.encoder(),
    "layout": plain.layout(),
    "progress": False,
}
UNIT = plain.UNIT


class Call(NamedTuple):
    """What a compiled pruning epoch was given and what it made of it."""

    before: np.ndarray  # [g, size]
    after: np.ndarray


@pytest.fixture(autouse=True, scope="module")
def programs() -> Iterator[functools._lru_cache_wrapper]:
    """Searches of one space share their compiled step, so that a test does not compile what another has."""
    with pytest.MonkeyPatch.context() as patch:
        remembered = functools.cache(module.pruning)
        patch.setattr(module, "pruning", remembered)
        yield remembered


@pytest.fixture
def calls(programs, monkeypatch) -> list[Call]:
    """The epochs of the searches that this test makes, as they are made."""
    seen: list[Call] = []

    def pruning(*settings):
        step = programs(*settings)

        def spied(frozen, theta, masks, cohort, keep):
            before = np.array(masks)  # which the step consumes
            after, faults = step(frozen, theta, masks, cohort, keep)
            seen.append(Call(before, np.array(after)))
            return after, faults

        return spied

    monkeypatch.setattr(module, "pruning", pruning)
    return seen


def search(backbone=None, clients=CLIENTS, **changes) -> pf.Masks:
    return pf.search(backbone or plain.bigrams(), clients, **(SETTINGS | {"targets": ("q", "k")} | changes))


def dense(masks: pf.Masks) -> np.ndarray:
    return np.stack([masks.dense(client) for client in range(len(masks))])


def pieces(rank: int, scope: str) -> list[np.ndarray]:
    """Coordinates that are ranked together: all of them, or those of each matrix of each layer."""
    size = rank * UNIT
    if scope == "client":
        return [np.arange(size)]
    matrices = [leaf for out in (3, 4) for leaf in [5 * rank] * 2 + [rank * out] * 2]  # k and q; A and B; two layers
    return np.split(np.arange(size), np.cumsum(matrices)[:-1])


def by_loops(
    gradient: plain.Gradient, like, kept: dict[int, int], pieces, *, metric: str, epochs: int
) -> dict[int, list[np.ndarray]]:
    """Algorithm 1, client by client: the mask after every epoch. `kept` is the rank that is left to each client.

    The library's gradients may be off by what plain.CLOSE allows, which decides nothing unless a score lies so near
    to the threshold; that none does is asserted, so masks must be equal, coordinate by coordinate.
    """
    theta, data = plain.flat(like).astype(np.float64), worlds.encoded(CLIENTS)
    rank = like["lora"]["q"]["a"].shape[2]
    masks: dict[int, list[np.ndarray]] = {}
    for client, left in kept.items():
        own, mask = data.client(client), np.ones(len(theta), bool)
        masks[client] = []
        for t in range(1, epochs + 1):
            order = rng.generator(SETTINGS["seed"], "epoch", t - 1, client).permutation(len(own))
            batches = [[own[i] for i in order[start : start + 3]] for start in range(0, len(own), 3)]
            by_batch = [gradient(theta * mask, like, batch)[1] for batch in batches]
            g = gradient(theta * mask, like, own)[1]
            h = np.mean([one**2 for one in by_batch], axis=0)
            off = plain.CLOSE["rtol"] * np.abs(g) + plain.CLOSE["atol"]
            h_off = np.mean(
                [2 * np.abs(one) * (plain.CLOSE["rtol"] * np.abs(one) + plain.CLOSE["atol"]) for one in by_batch], 0
            )
            first, second = g * theta * mask, theta * h * theta * mask
            score, error = {
                "first": (np.abs(first), off * np.abs(theta)),
                "second": (np.abs(second), h_off * theta**2),
                "mixed": (np.abs(first - second / 2), off * np.abs(theta) + h_off * theta**2 / 2),
            }[metric]
            after = np.zeros(len(theta), bool)
            for piece in pieces:
                k = round(len(piece) * (left / rank) ** (t / epochs))
                alive = piece[mask[piece]]
                best = alive[np.argsort(-score[alive], kind="stable")]
                keep, drop = best[:k], best[k:]
                if len(drop) and len(keep):
                    assert (score - error)[keep].min() > (score + error)[drop].max(), "too near to tell"
                after[keep] = True
            mask = after
            masks[client].append(mask)
    return masks


@pytest.mark.parametrize(("metric", "scope"), [("first", "client"), ("second", "module"), ("mixed", "client")])
def test_a_search_equals_algorithm_1_by_loops(calls, metric, scope):
    """Two epochs of four clients, halves of whom keep 2 of 4 ranks and 4 of 4."""
    masks = search(metric=metric, scope=scope, sparsity=(0.5, 0.0))
    kept = {0: 2, 1: 2, 2: 4, 3: 4}
    wanted = by_loops(plain.bigram_gradient, plain.adapter(rank=4), kept, pieces(4, scope), metric=metric, epochs=2)
    (group,) = groups(CLIENTS.sizes, at_once=4)
    for epoch, call in enumerate(calls):
        np.testing.assert_array_equal(call.after, np.stack([wanted[client][epoch] for client in group]))
    np.testing.assert_array_equal(dense(masks), np.stack([wanted[client][-1] for client in range(4)]))
    np.testing.assert_array_equal(plain.flat(masks.adapter), plain.flat(plain.adapter(rank=4)))


def test_a_search_through_the_decoder_equals_algorithm_1_by_loops():
    masks = search(worlds.backbone(), metric="mixed", targets=("q", "k", "v"))
    like = plain.adapter(worlds.backbone, rank=4)
    whole = [np.arange(len(plain.flat(like)))]
    wanted = by_loops(plain.decoder_gradient, like, dict.fromkeys(range(4), 2), whole, metric="mixed", epochs=2)
    np.testing.assert_array_equal(dense(masks), np.stack([wanted[client][-1] for client in range(4)]))


@pytest.mark.parametrize(
    ("sparsity", "scope", "expanded", "ranks"),
    [
        (0.5, "client", 16, [8] * 4),
        ((0.0, 0.25, 0.5), "client", 16, [16, 16, 12, 8]),
        (1 / 3, "module", 12, [8] * 4),
        ((0.0, 1 / 3), "module", 12, [12, 12, 8, 8]),
    ],
)
def test_every_client_keeps_exactly_its_budget(sparsity, scope, expanded, ranks):
    masks = search(rank=8, sparsity=sparsity, epochs=3, scope=scope)
    assert masks.space.rank == expanded and masks.space.size == expanded * UNIT
    assert masks.owned.tolist() == [rank * UNIT for rank in ranks]
    if scope == "module":
        for mask, rank in zip(dense(masks), ranks):
            for piece in pieces(expanded, scope):
                assert mask[piece].sum() * expanded == len(piece) * rank


def test_no_piece_is_pruned_by_its_neighbours_scores():
    """Ranked together, matrices keep unequal shares; each by itself, equal ones."""
    shares = [
        mask[piece].mean() for mask in dense(search(metric="mixed", scope="client")) for piece in pieces(4, "module")
    ]
    assert max(shares) > 0.6 and min(shares) < 0.4
    shares = [
        mask[piece].mean() for mask in dense(search(metric="second", scope="module")) for piece in pieces(4, "module")
    ]
    assert set(shares) == {0.5}


def test_masks_shrink_by_the_exponential_schedule_and_nothing_pruned_returns(calls):
    search(epochs=5, clients_at_once=4)
    assert len(calls) == 5 and calls[0].before.all()
    for t, call in enumerate(calls, start=1):
        assert not (call.after & ~call.before).any()
        assert (call.after.sum(-1) == round(4 * UNIT * 0.5 ** (t / 5))).all()
    for call, following in itertools.pairwise(calls):
        np.testing.assert_array_equal(call.after, following.before)


few = st.sampled_from([0.0, 0.25, 1.0])
pruned = jax.jit(module.survivors, static_argnums=(0, 1))


@settings(max_examples=60)
@given(st.data(), st.sampled_from(["client", "module"]), st.floats(0, 1), st.floats(0, 1))
def test_survivors_are_the_first_of_the_best_that_were_alive(data, scope, alive, staying):
    """Scores of few values, most of them ties, zeros among them: what was pruned is below even those."""
    space = pf.Space.of(plain.adapter(rank=2))
    scores = data.draw(hnp.arrays(np.float32, space.size, elements=few))
    seed = data.draw(st.integers(0, 1000))
    mask, wanted = np.zeros((2, space.size), bool)
    keep = [round(part.piece * alive * staying) for part in space.groups(scope)]
    for number, piece in enumerate(pieces(2, scope)):
        before = np.random.default_rng(seed + number).choice(piece, round(len(piece) * alive), replace=False)
        mask[before] = True
        before = np.sort(before)
        k = round(len(piece) * alive * staying)
        wanted[before[np.argsort(-scores[before], kind="stable")[:k]]] = True
    got = pruned(space, scope, jnp.asarray(scores), jnp.asarray(mask), jnp.asarray(keep))
    np.testing.assert_array_equal(got, wanted)


def test_masks_are_a_function_of_the_seed():
    again = [search(seed=seed).bitmaps for seed in (3, 3, 4)]
    np.testing.assert_array_equal(again[0], again[1])
    assert (again[0] != again[2]).any(1).all()


def test_masks_follow_the_clients_own_data():
    """Every client's mask is its own, and stays what it is whoever else takes part."""
    masks = search()
    assert (masks.similarity().all[~np.eye(4, dtype=bool)] > 0).all()
    others = worlds.MemoryClients([CLIENTS[0], CLIENTS[1], worlds.examples(9, seed=99), CLIENTS[3]])
    changed = (search(clients=others).bitmaps != masks.bitmaps).any(1)
    assert changed.tolist() == [False, False, True, False]


LAYOUTS = {
    "rows longer than texts, three clients at once, a place left empty": ({"row_width": 96}, {"clients_at_once": 3}),
    "texts over rows, in flights, one client at once": (
        {"row_width": 5, "positions_per_flight": 48},
        {"clients_at_once": 1},
    ),
    "three lanes": ({"lanes": 3}, {}),
    "two devices": ({"lanes": 2}, {"mesh": "clients:2"}),
    "four devices, one client at once": ({"lanes": 4}, {"mesh": "clients:4", "clients_at_once": 1}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_do_not_depend_on_the_layout(layout):
    """Rounding may differ, but decides nothing here: the loops say that no score is near its threshold."""
    changes, settings = LAYOUTS[layout]
    if "mesh" in settings:
        settings = settings | {"mesh": mesh(settings["mesh"])}
    got = search(metric="mixed", sparsity=(0.5, 0.0), layout=plain.layout(**changes), **settings)
    kept = {0: 2, 1: 2, 2: 4, 3: 4}
    wanted = by_loops(plain.bigram_gradient, plain.adapter(rank=4), kept, pieces(4, "client"), metric="mixed", epochs=2)
    np.testing.assert_array_equal(dense(got), np.stack([wanted[client][-1] for client in range(4)]))


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_search_of_clients_of_one_size_is_one_program(lanes):
    """Two groups of two clients, three epochs of each."""
    space = pf.Space.of(plain.adapter(rank=6))
    step = module.pruning(plain.bigrams(), space, "first", "client")
    step.clear_cache()
    layout = plain.layout(lanes=lanes, row_width=24)
    search(
        clients=worlds.clients((6,) * 4),
        rank=3,
        epochs=3,
        layout=layout,
        clients_at_once=2 // lanes,
        mesh=mesh(f"clients:{lanes}") if lanes > 1 else None,
    )
    assert step._cache_size() == 1


def test_vanilla_initialization_is_refused_because_importance_vanishes():
    with pytest.raises(InputError, match=r"B of 'q' is zero.*scores of A.*init gaussian or uniform"):
        search(init="vanilla")


def test_uniform_initialization_is_searched_as_well():
    masks = search(init="uniform")
    assert masks.owned.tolist() == [2 * UNIT] * 4
    assert (masks.bitmaps != search().bitmaps).any(1).all()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"metric": "third"}, "unknown importance metric 'third'"),
        ({"scope": "layer"}, "scope must be 'client' or 'module'"),
        ({"epochs": 0}, "one pruning epoch at least, not 0"),
        ({"sparsity": 0.45}, "the nearest sparsity that fits is 0.5"),
        ({"sparsity": (0.5,) * 5}, "5 sparsities need as many clients; there are 4"),
        ({"init": "zeros"}, "unknown LoRA init 'zeros'"),
    ],
)
def test_searches_that_cannot_be_are_refused(changes, problem):
    with pytest.raises(InputError, match=problem):
        search(**changes)


def with_embedding_of_z(value: float) -> tuple[types.SimpleNamespace, worlds.MemoryClients]:
    """A model in which the letter z is embedded as that number, and clients of whom client 1 alone uses it."""
    data = [list(CLIENTS[client]) for client in range(4)]
    data[1][0] = data[1][0]._replace(query="abz")
    frozen = plain.bigrams().frozen
    table = frozen["embedding"].at[worlds.Letters().encode(["z"])[0]].set(value)
    broken = types.SimpleNamespace(frozen=frozen | {"embedding": table}, loss=plain.bigrams())
    return broken, worlds.MemoryClients(data)


def test_a_client_whose_loss_is_not_finite_is_named():
    broken, clients = with_embedding_of_z(np.nan)
    with pytest.raises(InputError, match="client 1: the loss or its gradient is not finite"):
        search(broken, clients=clients)


@pytest.mark.parametrize(
    ("value", "stage"),
    [
        (np.nan, r"not a number in \w+ \(profit_jax/federated/client\.py:\d+\)"),  # the loss itself is a test's
        (1e30, "the gradient or an importance score is infinite"),  # squares are
    ],
)
def test_debugging_a_search_names_the_epoch_the_client_and_the_stage(value, stage):
    broken, clients = with_embedding_of_z(value)
    with pytest.raises(InputError, match=f"^pruning epoch 1, client 1: {stage}"):
        search(broken, clients=clients, metric="second", debug=True)


def test_debugging_a_search_changes_no_mask():
    plainly, checked = (search(metric="second", debug=debug) for debug in (False, True))
    np.testing.assert_array_equal(checked.bitmaps, plainly.bitmaps)
