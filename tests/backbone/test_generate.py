"""Generation with a cache equals running everything anew for each token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from profit_jax.backbone import Backbone
from profit_jax.backbone import generate as module
from profit_jax.backbone.generate import _batch, _run, batches, generate_tokens, ladder
from profit_jax.errors import InputError
from tests.backbone.families import TINY, loras, prompts, saved, sequence_logits, tiny
from tests.backbone.test_tokenizer import written

CLIENTS, NEW, NEVER = 3, 7, (TINY.vocabulary,)
ADAPTERS = {"none": {}, "prompt": prompts(CLIENTS, 4), "lora": loras(CLIENTS, targets=("q", "k", "v", "down"))}


def queries(lengths: list[int]) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(3, TINY.vocabulary, n).astype(np.int32) for n in lengths]


def full_forward(adapters: dict, query: np.ndarray, client: int, end_tokens: tuple[int, ...]) -> list[int]:
    """The argmax of a whole forward pass for each token; positions behind the last are padding that nobody sees."""
    own = jax.tree.map(lambda leaf: leaf[client], adapters)
    prompt_rows = len(own.get("prompt", ()))
    answer: list[int] = []
    while len(answer) < NEW:
        ids = [*query.tolist(), *answer]
        logits = sequence_logits(tiny().frozen, own, jnp.asarray(ids + [0] * (40 - len(ids))))
        token = int(jnp.argmax(logits[prompt_rows + len(ids) - 1]))
        if token in end_tokens:
            break
        answer.append(token)
    return answer


def generated(backbone, adapters, chosen, clients, end_tokens=NEVER, **options) -> list[list[int]]:
    options = {"new_tokens": NEW, "end_tokens": end_tokens, **options}
    return [
        ids.tolist() for ids in generate_tokens(backbone.graph, backbone.frozen, adapters, chosen, clients, **options)
    ]


@pytest.mark.parametrize("kind", ADAPTERS)
def test_cache_equals_full_forward(kind):
    backbone, adapters = tiny(), ADAPTERS[kind]
    chosen, clients = queries([3, 11, 30, 1, 16]), [0, 1, 2, 1, 0]
    free = [full_forward(adapters, q, c, ()) for q, c in zip(chosen, clients)]
    end = (free[0][3], free[1][0], free[2][5])  # rows end at different steps, one of them with its first token
    expected = [full_forward(adapters, q, c, end) for q, c in zip(chosen, clients)]
    assert expected[1] == [] and len({len(answer) for answer in expected}) > 2
    assert generated(backbone, adapters, chosen, clients) == free
    assert generated(backbone, adapters, chosen, clients, end) == expected


def test_batching_padding_and_order_change_nothing():
    backbone, adapters = tiny(), ADAPTERS["prompt"]
    chosen = queries([3, 11, 28, 1, 16, 5, 40, 2, 9])
    clients = [i % CLIENTS for i in range(len(chosen))]
    together = generated(backbone, adapters, chosen, clients)
    assert generated(backbone, adapters, chosen, clients, positions_per_batch=128) == together
    assert generated(backbone, adapters, chosen[::-1], clients[::-1]) == together[::-1]
    assert generated(backbone, adapters, chosen[4:5], clients[4:5]) == together[4:5]


def test_answers_are_handed_over_while_the_device_has_batches_to_work_on(monkeypatch):
    given, decode = [], module._decode
    monkeypatch.setattr(module, "_decode", lambda *args, **options: given.append(1) or decode(*args, **options))
    backbone, chosen = tiny(), queries([5] * 12)
    options = {"new_tokens": NEW, "end_tokens": NEVER, "positions_per_batch": 16}  # a query a batch
    places, ahead = [], []
    for batch, answers in module.generate_batches(backbone.graph, backbone.frozen, {}, chosen, [0] * 12, **options):
        assert len(batch) == len(answers) == 1
        places += batch
        ahead.append(len(given) - len(places))
    assert places == [*range(12)]
    assert ahead == [module._AHEAD] * (12 - module._AHEAD) + [*range(module._AHEAD)][::-1]


def test_the_loop_stops_when_every_row_has_ended():
    backbone = tiny()
    chosen = queries([3, 11])
    free = generated(backbone, {}, chosen, [0, 0])
    batch = _batch(chosen, [0, 0], 4, 16)  # two rows are empty

    def steps(end_tokens):
        return int(
            jax.jit(_run, static_argnums=(0, 4, 5))(backbone.graph, backbone.frozen, {}, batch, NEW, end_tokens).step
        )

    assert steps(NEVER) == NEW
    assert steps((free[0][0], free[1][0])) == 1
    expected = 1 + max(next(i for i, token in enumerate(row) if token in (free[0][2], free[1][1])) for row in free)
    assert steps((free[0][2], free[1][1])) == expected < NEW


def test_one_token_and_no_query():
    backbone = tiny()
    [chosen] = queries([5])
    assert generated(backbone, {}, [chosen], [0], new_tokens=1)[0] == generated(backbone, {}, [chosen], [0])[0][:1]
    assert generated(backbone, {}, [], []) == []


def test_texts(tmp_path):
    backbone = Backbone.load(written(saved(tmp_path), words=[f"w{i}" for i in range(58)]))
    texts = ["w1 w2 w3", "", "w9"]
    answers = backbone.generate(texts, max_new_tokens=5)
    assert len(answers) == 3 and all(isinstance(answer, str) for answer in answers)
    ids = generate_tokens(
        backbone.graph, backbone.frozen, {}, [np.asarray([1, 4, 5, 6])], [0], new_tokens=5, end_tokens=(2,)
    )
    assert answers[0] == backbone.tokenizer.decode(ids[0])
    adapter = {"prompt": prompts(1, 4)["prompt"][0]}
    assert backbone.generate(texts, adapter, max_new_tokens=5) != answers


def test_texts_need_a_tokenizer():
    with pytest.raises(InputError, match="no tokenizer"):
        tiny().generate(["a"])


def nucleus(shares: np.ndarray, top_p: float) -> np.ndarray:
    """The fewest likeliest tokens that have `top_p` together, renormalized, token by token."""
    kept, total = np.zeros_like(shares), 0.0
    for token in np.argsort(-shares):
        if total < top_p:
            kept[token], total = shares[token], total + shares[token]
    return kept / kept.sum()


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.5, 0.7)])
def test_draws_have_the_frequencies_of_the_softmax(temperature, top_p):
    """Of pairs of tokens, over 4,096 rows that ask the same: a cell's count lies within 5 of its standard deviations.

    Rows or steps that shared their draws would not have the products of the two tokens' probabilities.
    """
    drawn, vocabulary, query = 4096, 5, np.asarray([3, 1, 2], np.int32)
    config = dataclasses.replace(TINY, vocabulary=vocabulary)
    backbone = Backbone.random(config, seed=1)
    frozen = jax.tree.map(lambda leaf: leaf * 1.5 if leaf.ndim == 3 else leaf, backbone.frozen)
    backbone = dataclasses.replace(backbone, frozen=frozen)

    def shares(*tokens: int) -> np.ndarray:
        logits = np.asarray(backbone.logits(np.asarray([[*query, *tokens]])), np.float64)[0, -1]
        weights = np.exp(logits / temperature)
        return nucleus(weights / weights.sum(), top_p)

    first = shares()
    expected = np.stack([share * shares(token) for token, share in enumerate(first)])
    chosen = {"temperature": temperature, "top_p": top_p, "seed": 3, "new_tokens": 2, "end_tokens": (vocabulary,)}
    pairs = generated(backbone, {}, [query] * drawn, [0] * drawn, positions_per_batch=1 << 16, **chosen)
    found = np.zeros_like(expected)
    np.add.at(found, tuple(np.transpose(pairs)), 1)
    assert expected.max() < 0.9 and ((expected == 0).any() == (top_p < 1))
    assert (np.abs(found - drawn * expected) <= 5 * np.sqrt(drawn * expected * (1 - expected))).all()


def test_draws_are_a_function_of_the_seed_and_the_place_of_the_query():
    backbone, chosen = tiny(), queries([3, 11, 28, 1, 16, 5])
    clients, warm = [0] * len(chosen), {"temperature": 1.0}
    drawn = generated(backbone, {}, chosen, clients, **warm)
    assert generated(backbone, {}, chosen, clients, positions_per_batch=64, **warm) == drawn
    assert generated(backbone, {}, chosen[:2], clients[:2], **warm) == drawn[:2]
    assert generated(backbone, {}, chosen, clients, seed=1, **warm) != drawn


def test_a_temperature_near_zero_is_greedy():
    backbone, adapters = tiny(), ADAPTERS["prompt"]
    chosen, clients = queries([3, 11, 28, 1]), [0, 1, 2, 0]
    cold = generated(backbone, adapters, chosen, clients, temperature=1e-6)
    assert cold == generated(backbone, adapters, chosen, clients)


@pytest.mark.parametrize("options", [{"temperature": -0.1}, {"temperature": np.nan}, {"top_p": 0.0}, {"new_tokens": 0}])
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(InputError):
        generated(tiny(), {}, queries([3]), [0], **options)


@given(st.lists(st.integers(1, 300), max_size=60), st.sampled_from([64, 512, 4096]))
def test_batches_cover_every_row_once_and_hold_it(lengths, positions):
    seen, shapes = [], set()
    found = list(batches(lengths, positions))
    for chosen, rows, width in found:
        assert 0 < len(chosen) <= rows and rows * width <= max(positions, width)
        assert width == ladder(max(lengths[i] for i in chosen))
        seen += chosen
        shapes.add((rows, width))
    assert sorted(seen) == list(range(len(lengths)))
    assert len(shapes) <= len({ladder(n) for n in lengths}) + 1


def test_rows_shared_by_devices_are_answered_as_by_one():
    """The same queries with the weights on a mesh of eight fake devices, each answering its share of every batch."""
    asked, clients = queries([*range(1, 22)]), [i % CLIENTS for i in range(21)]
    mesh = Mesh(np.array(jax.devices()), ("clients",))
    whole = jax.device_put((tiny().frozen, ADAPTERS["prompt"]), NamedSharding(mesh, PartitionSpec()))
    shared = dataclasses.replace(tiny(), frozen=whole[0])
    alone = generated(tiny(), ADAPTERS["prompt"], asked, clients, positions_per_batch=64)
    assert generated(shared, whole[1], asked, clients, positions_per_batch=64, mesh=mesh) == alone
