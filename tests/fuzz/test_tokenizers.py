"""The tokenizer files of a model's folder."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.backbone import BackboneConfig
from profit_jax.backbone.families import read_config
from profit_jax.backbone.model import folder_of
from profit_jax.backbone.tokenizer import Tokenizer, load_tokenizer
from tests.fuzz import faults, law

TEXTS = ["A query", "naïve \U0001f600</s>", "a\x00b", ""]
OTHERS = (  # fields that name code, other files or the hub
    {"auto_map": {"AutoTokenizer": ["code.Mine", None]}, "tokenizer_class": "Mine"},
    {"tokenizer_class": "../code"},
    {"tokenizer_file": "../beside.json"},
    {"vocab_file": "/etc/passwd", "tokenizer_class": "LlamaTokenizer"},
    {"name_or_path": "gpt2"},
    {"fast_tokenizer_files": ["../beside.json"]},
    {"chat_template": "{{ ''.__class__ }}"},
    {"added_tokens_decoder": {"10000000000": {"content": "x", "special": True}}},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's tokenizer with a short vocabulary; code beside it that must not run."""
    folder = tmp_path_factory.mktemp("tokenizers") / "here"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(folder_of("tiny") / name, folder / name)
    fields = json.loads((folder_of("tiny") / "tokenizer.json").read_text())
    fields["model"]["merges"] = fields["model"]["merges"][:20]
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    (folder / "code.py").write_text("raise SystemExit('this ran')\n")
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> BackboneConfig:
    config = read_config(folder)
    right(load_tokenizer(folder, config), config)  # the first time it imports `transformers`, which is no case
    return config


def right(tokenizer: Tokenizer | None, config: BackboneConfig) -> None:
    """Asserts that texts become ids that the embedding table has."""
    if tokenizer is not None:
        ids = [id_ for row in tokenizer.encode(TEXTS) for id_ in row.tolist()]
        assert all(0 <= id_ < tokenizer.size <= config.vocabulary for id_ in (*ids, *tokenizer.start, tokenizer.end))
        assert isinstance(tokenizer.decode(ids), str)


@law.cases
@given(st.data())
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer(folder: Path, config: BackboneConfig, name: str, data: st.DataObject) -> None:
    file = folder / name
    tree = json.loads(file.read_text())
    contents = faults.damaged_json(tree)
    if name == "tokenizer_config.json":
        others = st.sampled_from(OTHERS).map(lambda other: json.dumps({**tree, **other}).encode())
        contents = st.one_of(contents, others)
    fault = data.draw(faults.or_no_file(contents))
    with faults.spoilt(file, fault):
        law.holds(lambda: load_tokenizer(folder, config), folder, [folder], lambda found: right(found, config))
