"""Text to ids and back."""

import dataclasses
import json

import numpy as np
import pytest
from tokenizers import AddedToken, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Rust

from profit_jax.backbone import load_tokenizer, read_config
from profit_jax.errors import InputError
from tests.backbone.families import TINY


def written(folder, words=("a", "b", "story"), end="</s>"):
    """A word tokenizer with <s> in front of every text."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{word: 3 + i for i, word in enumerate(words)}}
    rust = Rust(models.WordLevel(vocabulary, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    rust.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    rust.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return folder


def test_ids_and_text(tmp_path):
    tokenizer = load_tokenizer(written(tmp_path), TINY)
    assert (tokenizer.start, tokenizer.end, tokenizer.size) == ((1,), 2, 6)
    ids = tokenizer.encode(["a story", "", "b b z"])
    assert [row.tolist() for row in ids] == [[3, 5], [], [4, 4, 0]]
    assert all(row.dtype == np.int32 for row in ids)
    assert tokenizer.decode([1, 3, 5, 2]) == "a story"
    assert tokenizer.encode([]) == []


def test_text_that_spells_a_special_token_is_text(tmp_path):
    tokenizer = load_tokenizer(written(tmp_path), TINY)
    assert 2 not in tokenizer.encode(["a </s> b"])[0]


def test_the_model_names_the_end_where_the_tokenizer_does_not(tmp_path):
    written(tmp_path, end=None)
    config = dataclasses.replace(TINY, end_tokens=(5, 2))
    assert load_tokenizer(tmp_path, config).end == 5
    with pytest.raises(InputError, match="end-of-text token"):
        load_tokenizer(tmp_path, dataclasses.replace(TINY, end_tokens=()))


def test_a_tokenizer_too_large_for_the_table_is_named(tmp_path):
    written(tmp_path, words=[f"w{i}" for i in range(100)])
    with pytest.raises(InputError) as error:
        load_tokenizer(tmp_path, TINY)
    assert str(error.value) == f"{tmp_path}: the tokenizer has 103 tokens, but the model's embedding table has 61 rows"


def test_special_tokens_beyond_the_table_do_no_harm(tmp_path):
    """Folders list special tokens of a larger model of the family; no text becomes one. The end token must fit."""
    written(tmp_path, words=["a", "b", *(f"w{i}" for i in range(56))])  # as many tokens as the table has rows
    fields = json.loads((tmp_path / "tokenizer.json").read_text())
    fields["added_tokens"].append({**fields["added_tokens"][0], "id": 61, "content": "<image>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    tokenizer = load_tokenizer(tmp_path, TINY)
    assert tokenizer.inner.get_vocab()["<image>"] == tokenizer.size == 61
    assert 61 not in tokenizer.encode(["a <image> b"])[0]
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<image>"})
    )
    with pytest.raises(InputError, match="the tokenizer has 62 tokens, but the model's embedding table has 61 rows"):
        load_tokenizer(tmp_path, TINY)


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "[]"])
def test_a_broken_tokenizer_is_one_line(content, tmp_path):
    (written(tmp_path) / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="the tokenizer is not readable") as error:
        load_tokenizer(tmp_path, TINY)
    assert "\n" not in str(error.value)


def test_no_files_no_tokenizer(tmp_path):
    assert load_tokenizer(tmp_path, TINY) is None


@pytest.mark.real_data
def test_start_and_text_are_what_the_tokenizer_itself_gives(stories):
    tokenizer = load_tokenizer(stories, read_config(stories))
    texts = ["Once upon a time", "Définition: 3 + 4 = 7?\nYes — ok", " two  spaces "]
    for text, ids in zip(texts, tokenizer.encode(texts)):
        assert [*tokenizer.start, *ids] == tokenizer.inner(text)["input_ids"]
    assert tokenizer.decode(tokenizer.encode(texts)[1]) == texts[1]
