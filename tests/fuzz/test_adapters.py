"""Adapters in folders of Hugging Face PEFT."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profit_jax.adapters import load_peft, lora, save_peft, soft_prompt
from profit_jax.backbone import Backbone
from profit_jax.typing import Adapter
from tests.fuzz import faults, law
from tests.fuzz.test_weights import CONFIG, _other_numbers, header, tensor, with_header

BACKBONE = Backbone.random(CONFIG)
KINDS = ("prompt", "lora")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    save_peft(root / "prompt", soft_prompt(BACKBONE, length=3, init="gaussian", seed=0), BACKBONE, base_model="x")
    save_peft(root / "lora", lora(BACKBONE, rank=2, targets=("q", "down"), seed=0), BACKBONE, base_model="x")
    return root


def right(folder: Path, adapter: Adapter) -> None:
    """Asserts that an adapter is what the format's own description says of its file."""
    content = (folder / "adapter_model.safetensors").read_bytes()
    config = json.loads((folder / "adapter_config.json").read_bytes().decode("utf-8-sig"))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(adapter))
    if "prompt" in adapter:
        np.testing.assert_array_equal(adapter["prompt"], tensor(content, "prompt_embeddings"))
        return
    scale = config["lora_alpha"] / config["r"]
    for layer in range(CONFIG.layers):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
        factors = adapter["lora"]["q"]
        np.testing.assert_array_equal(factors["a"][layer], tensor(content, f"{name}A.weight").T)
        np.testing.assert_allclose(factors["b"][layer], scale * tensor(content, f"{name}B.weight").T, rtol=1e-6)


@law.cases
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_the_config_of_an_adapter(root: Path, kind: str, data: st.DataObject) -> None:
    folder = root / kind
    file = folder / "adapter_config.json"
    fault = data.draw(faults.or_no_file(faults.damaged_json(json.loads(file.read_text()))))
    with faults.spoilt(file, fault):
        law.holds(lambda: load_peft(folder, BACKBONE), folder, [folder], lambda found: right(folder, found))


@law.cases
@given(st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_the_tensors_of_an_adapter(root: Path, kind: str, data: st.DataObject) -> None:
    folder = root / kind
    file = folder / "adapter_model.safetensors"
    fields, tensors = header(file.read_bytes())
    contents = st.one_of(
        faults.damaged(file.read_bytes()),
        faults.damaged_tree(fields).map(lambda tree: with_header(faults.text(tree), tensors)),
        _other_numbers(fields).map(lambda tree: with_header(json.dumps(tree).encode(), tensors)),
    )
    fault = data.draw(faults.or_no_file(contents))
    with faults.spoilt(file, fault):
        law.holds(lambda: load_peft(folder, BACKBONE), folder, [folder], lambda found: right(folder, found))
