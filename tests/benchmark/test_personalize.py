"""Stage 2: who is tested on what, the points of the curve, the heuristics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import profit_jax as pj
from profit_jax import optim, trees
from profit_jax.benchmark import choose_test_clients, few_shot, no_prompt, personalize
from profit_jax.benchmark.baselines import few_shot_text
from profit_jax.benchmark.evaluate import Evaluator
from profit_jax.benchmark.personalize import Scorer, genie, interpolate
from profit_jax.data.sni import Demonstration
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir
from profit_jax.metrics import rouge_l
from tests import worlds

DATA = worlds.clients((12, 14, 12))
CLIENTS = choose_test_clients(DATA, count=3, train_examples=6, test_examples=4, global_examples=5, seed=0)
ENCODER = pj.Encoder(worlds.Letters(), max_query=16, max_target=6)
SETTINGS = {
    "epochs": 2,
    "batch_size": 4,
    "new_tokens": 4,
    "encoder": ENCODER,
    "layout": pj.Layout(row_width=32, slack=3.0),
    "progress": False,
}


def run(clients=CLIENTS, **settings):
    return personalize(worlds.backbone(), worlds.prompt(), clients, **SETTINGS, **settings)


def test_answers_take_a_tokenizer():
    with pytest.raises(InputError, match="no tokenizer"):
        Evaluator(pj.Backbone.random(worlds.CONFIG), ENCODER)


def test_train_test_and_global_sets_are_apart_and_of_their_sizes():
    for number, train, test in zip(CLIENTS.numbers, CLIENTS.train, CLIENTS.test):
        assert len(train) == 6 and len(test) == 4
        assert not set(train) & set(test) and set(train) | set(test) <= set(DATA[number])
    pool = [example for test in CLIENTS.test for example in test]
    assert len(set(CLIENTS.shared)) == 5 and set(CLIENTS.shared) <= set(pool)


def test_with_fewer_training_examples_they_are_among_the_others_and_test_sets_are_the_same():
    sizes = {"count": 3, "test_examples": 4, "global_examples": 5}
    few = choose_test_clients(DATA, train_examples=2, **sizes)
    assert (few.numbers, few.test, few.shared) == (CLIENTS.numbers, CLIENTS.test, CLIENTS.shared)
    assert few.train == [own[:2] for own in CLIENTS.train]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"count": 4}, "4 test clients are asked for, but the data set has 3"),
        ({"count": 3, "train_examples": 9}, r"test client \d \(task\d\) has 12 examples, fewer than .* = 13"),
        ({"count": 3, "global_examples": 13}, "global_examples = 13"),
    ],
)
def test_more_than_there_is_is_an_error_that_names_it(asked, said):
    sizes = {"train_examples": 6, "test_examples": 4, "global_examples": 5} | asked
    with pytest.raises(InputError, match=said):
        choose_test_clients(DATA, **sizes)


def test_the_curve_starts_at_the_global_prompt_and_has_every_point(tmp_path):
    workdir = Workdir(tmp_path / "run", {})
    curve = personalize(
        worlds.backbone(),
        worlds.prompt(),
        CLIENTS,
        optimizer=optax.sgd(0.1),
        average=(0.0, 0.5, 1.0),
        workdir=workdir,
        **SETTINGS,
    )
    assert [(row["epoch"], row["alpha"]) for row in curve.mean()] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    points = {alpha: (local, shared) for _, alpha, local, shared in (row.values() for row in curve.mean("average"))}
    first, last = curve.mean()[0], curve.mean()[-1]
    assert points[0.0] == (first["local"], first["global"]), "alpha = 0 is the global prompt"
    assert points[1.0] == (last["local"], last["global"]), "alpha = 1 is the personalized one"
    assert workdir.rows("clients") == curve.rows
    assert all(row["local_weight"] == 4 and row["global_weight"] == 5 for row in curve.rows)


def test_scores_that_are_not_asked_for_twice_are_those_that_would_be_found():
    """One prompt for all is every client's own; alpha = 0 is that prompt, alpha = 1 the personalized one, exactly."""
    scorer, one = Scorer(Evaluator(worlds.backbone(), ENCODER, new_tokens=4), CLIENTS), worlds.prompt(seed=5)
    start = trees.broadcast(one, 3)
    each = scorer(start)
    for (local, shared), (own, other) in zip(scorer.shared(one), each, strict=True):
        np.testing.assert_array_equal(local, own)
        np.testing.assert_array_equal(shared, other)
    personal = trees.broadcast(worlds.prompt(seed=6), 3)
    np.testing.assert_array_equal(interpolate(personal, start, 1.0)["prompt"], personal["prompt"])
    np.testing.assert_array_equal(interpolate(personal, start, 0.0)["prompt"], start["prompt"])


def test_scores_are_the_maximum_rouge_of_greedy_answers():
    scorer = Scorer(Evaluator(worlds.backbone(), ENCODER, new_tokens=4), CLIENTS)
    adapters = {"prompt": jnp.stack([worlds.prompt(seed=s)["prompt"] for s in range(3)])}
    for client, (local, shared) in enumerate(scorer(adapters)):
        own = jax.tree.map(lambda leaf, c=client: leaf[c], adapters)
        for examples, scores in ((CLIENTS.test[client], local), (CLIENTS.shared, shared)):
            texts = worlds.backbone().generate([e.query + "\n" for e in examples], own, max_new_tokens=4)
            np.testing.assert_allclose(scores, [rouge_l(t, e.targets) for t, e in zip(texts, examples)])


def test_a_query_that_is_asked_twice_of_a_client_is_answered_once_and_scored_by_the_references_of_each(monkeypatch):
    evaluator, answered = Evaluator(worlds.backbone(), ENCODER, new_tokens=4), []
    generate = evaluator._generate
    monkeypatch.setattr(
        evaluator,
        "_generate",
        lambda adapters, queries, clients: answered.append(clients) or generate(adapters, queries, clients),
    )
    first, second, third = CLIENTS.test[0][:3]
    asked = [first, second, first._replace(targets=("something else",)), third, second]
    adapters = {"prompt": jnp.stack([worlds.prompt(seed=s)["prompt"] for s in range(2)])}
    found = evaluator.scores(adapters, [evaluator.questions(asked), evaluator.questions(asked[:1])])
    assert answered == [[0, 0, 0, 1]]
    texts = worlds.backbone().generate(
        [e.query + "\n" for e in asked], {"prompt": adapters["prompt"][0]}, max_new_tokens=4
    )
    np.testing.assert_array_equal(found[0], [rouge_l(t, e.targets) for t, e in zip(texts, asked)])
    assert found[1].shape == (1,)


def test_personalization_is_each_clients_own_adam_over_epochs():
    """One client alone ends where it ends among the others."""
    together = run(optimizer=optax.sgd(0.1))
    alone = CLIENTS.__class__(CLIENTS.numbers[1:2], CLIENTS.train[1:2], CLIENTS.test[1:2], CLIENTS.shared)
    single = run(alone, optimizer=optax.sgd(0.1))
    np.testing.assert_allclose(together.adapters["prompt"][1], single.adapters["prompt"][0], rtol=1e-5, atol=1e-6)


def test_l2_keeps_prompts_nearer_to_the_global_one():
    def distance(l2: float) -> float:
        chain = optax.chain(optim.proximal(l2), optax.sgd(0.1))
        curve = run(optimizer=chain)
        return float(np.linalg.norm(curve.adapters["prompt"] - np.asarray(worlds.prompt()["prompt"])[None]))

    assert distance(5.0) < distance(1.0) < distance(0.0)


def test_a_stopped_personalization_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole = personalize(
        worlds.backbone(),
        worlds.prompt(),
        CLIENTS,
        optimizer=optax.adam(0.1),
        workdir=Workdir(tmp_path / "a", {}),
        **SETTINGS,
    )
    workdir = Workdir(tmp_path / "b", {})
    scored = Scorer.__call__
    calls = []

    def stops(self, adapters):
        calls.append(1)
        if len(calls) == 2:  # after epoch 1
            raise KeyboardInterrupt
        return scored(self, adapters)

    monkeypatch.setattr(Scorer, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        run(optimizer=optax.adam(0.1), workdir=workdir)
    monkeypatch.undo()
    again = personalize(
        worlds.backbone(), worlds.prompt(), CLIENTS, optimizer=optax.adam(0.1), workdir=workdir, **SETTINGS
    )
    np.testing.assert_array_equal(again.adapters["prompt"], whole.adapters["prompt"])
    assert workdir.rows("clients") == whole.rows


def test_the_genie_takes_the_better_answer_of_each_question():
    start = [(np.array([0.2, 0.9]), np.array([0.0]))]
    after = [(np.array([0.5, 0.1]), np.array([0.3]))]
    local, shared = genie(start, after)[0]
    assert local.tolist() == [0.5, 0.9] and shared.tolist() == [0.3]


def test_interpolation_by_hand():
    mixed = interpolate({"prompt": jnp.array([4.0])}, {"prompt": jnp.array([2.0])}, 0.25)
    assert mixed["prompt"].tolist() == [2.5]


def test_no_prompt_is_the_backbone_alone():
    curve = no_prompt(worlds.backbone(), CLIENTS, encoder=ENCODER, new_tokens=4)
    assert [row["epoch"] for row in curve.mean()] == [0]
    texts = worlds.backbone().generate([e.query + "\n" for e in CLIENTS.test[0]], max_new_tokens=4)
    expected = np.mean([rouge_l(t, e.targets) for t, e in zip(texts, CLIENTS.test[0])])
    assert curve.rows[0]["local"] == pytest.approx(expected)


class Description:
    definition = ("say it ", "twice")
    positive_examples = tuple(Demonstration(f"in {i}", f"out {i}", "") for i in range(3))


def test_few_shot_puts_definition_and_two_examples_before_the_query():
    text = few_shot_text(CLIENTS.test[0][0], Description(), 2)
    assert text.startswith("Definition: say it") and "in 0" in text and "out 1" in text and "in 2" not in text
    assert text.endswith(f"Input: {CLIENTS.test[0][0].query}\nOutput:")
    tasks = {example.task: Description() for test in CLIENTS.test for example in test}
    curve = few_shot(
        worlds.backbone(), CLIENTS, tasks, encoder=pj.Encoder(worlds.Letters(), max_query=300), new_tokens=2
    )
    assert len(curve.rows) == 3
