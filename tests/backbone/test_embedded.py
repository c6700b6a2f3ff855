"""The embedded model: it ships, it is small, and it is an ordinary Hugging Face folder."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.save import save
from profit_jax.data.encode import Encoder
from profit_jax.data.tiny.held_out import TEST
from profit_jax.data.tiny.rules import Rule
from profit_jax.data.tiny.training import TRAIN
from profit_jax.errors import InputError
from profit_jax.rng import generator
from tests.backbone.families import tiny

FOLDER = Path(__file__).parents[2] / "profit_jax" / "backbone" / "tiny"
FILES = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def assert_equals_transformers(folder: Path, texts: list[str]) -> None:
    """Tokens, their text and the logits of every position are those that transformers computes."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    backbone = Backbone.load(folder)
    for text in texts:
        ids = np.asarray(tokenizer(text)["input_ids"])
        assert ids.tolist() == backbone.tokenizer.encode([text])[0].tolist()
        assert tokenizer.decode(ids) == text
        with torch.no_grad():
            expected = model(torch.tensor(ids[None])).logits.numpy()
        np.testing.assert_allclose(backbone.logits(ids[None]), expected, atol=1e-4, rtol=0)
    assert backbone.end_tokens == (tokenizer.eos_token_id,)


def test_the_embedded_model_is_small_and_whole():
    assert {file.name for file in FOLDER.iterdir()} == FILES
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 12e6
    parameters = sum(leaf.size for leaf in jax.tree.leaves(Backbone.load("tiny").frozen))
    assert 1_000_000 <= parameters <= 6_000_000
    assert f"{parameters:,} parameters" in (FOLDER / "README.md").read_text(encoding="utf-8")


def right(rules: Sequence[Rule], heading: Callable[[Rule], str]) -> float:
    """Share of new queries, two of each rule, that the embedded model answers to the letter."""
    model, draw = Backbone.load("tiny"), generator(7, "unseen")
    asked = [(heading(rule), *rule.instance(draw)) for rule in rules for _ in range(2)]
    encoder = Encoder(model.tokenizer)
    queries = encoder.queries([f"{words}{query}" for words, query, _ in asked])
    answers = generate_tokens(
        model.graph, model.frozen, {}, queries, [0] * len(queries), new_tokens=24, end_tokens=model.end_tokens
    )
    return float(np.mean([model.tokenizer.decode(given) == right for given, (*_, right) in zip(answers, asked)]))


def test_the_embedded_model_knows_tasks_by_their_definitions_alone():
    """Rules without a cue it does after their definition; by themselves no query of any task is answered."""
    bare = [rule for rule in TRAIN if not rule.cue]
    assert right(bare, lambda rule: f"{rule.define()}\n") > 0.85
    assert right([*TRAIN, *TEST], lambda _: "") < 0.02


def test_a_few_words_call_up_what_queries_with_a_cue_ask_for():
    """What a federated prompt has to gain; the rules of held-out types are left to personalization."""
    assert right([rule for rule in TRAIN if rule.cue], lambda _: "Do the task.\n") > 0.8
    assert right(TEST, lambda _: "Do the task.\n") < 0.5


def test_the_embedded_model_equals_transformers():
    assert_equals_transformers(FOLDER, ["Anna found a red ball in the garden.\n", "12 eggs"])


def test_a_folder_named_tiny_is_given_as_a_path(tmp_path, monkeypatch):
    save(tmp_path / "tiny", tiny().config, jax.device_get(tiny().frozen))
    monkeypatch.chdir(tmp_path)
    for name in ("./tiny", Path("tiny")):
        assert Backbone.load(name).config == tiny().config
    assert Backbone.load("tiny").config != tiny().config


def test_an_installation_without_the_model_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(InputError, match="no embedded model"):
        Backbone.load("tiny")
