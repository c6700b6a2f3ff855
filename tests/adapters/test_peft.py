"""An adapter that leaves as a PEFT folder computes there what it computes here, and comes back as it was."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import chex
import jax
import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from profit_jax.adapters import load_peft, lora, merge, save_peft, soft_prompt
from profit_jax.adapters.lora import TARGETS
from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.save import save
from profit_jax.errors import InputError
from profit_jax.typing import Adapter
from tests.backbone.families import TINY, loras, prompts, reference, tiny
from tests.backbone.test_parity import loaded, reference_logits, tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASE = "a model's folder"


def prompt() -> Adapter:
    return {"prompt": prompts(1, 5)["prompt"][0]}


def low_rank(targets: tuple[str, ...] = ("q", "k", "v"), backbone: Backbone | None = None, **settings) -> Adapter:
    config = backbone.config if backbone else TINY
    return jax.tree.map(lambda leaf: leaf[0], loras(1, targets=targets, config=config, **settings))


def beside(name: str, folder: Path) -> "tuple[PreTrainedModel, peft.PeftModel]":
    """A fresh copy of the model, and the adapter of this folder on it."""
    model = reference(name)
    return model, peft.PeftModel.from_pretrained(model, folder).eval()


@pytest.mark.parametrize("name", ["gemma", "gpt-neox"])
def test_a_prompt_in_peft_gives_the_same_logits_and_tokens(name, tmp_path):
    """Its rows stand before the first token of the text at positions from 0, in the scaled embeddings' space."""
    _, backbone = loaded(name)
    adapter, ids = prompt(), tokens(61, 2, 20)
    save_peft(tmp_path / "prompt", adapter, backbone, base_model=BASE)
    _, theirs = beside(name, tmp_path / "prompt")
    expected = reference_logits(theirs, ids)[:, 5:]
    assert np.abs(expected - reference_logits(reference(name), ids)).max() > 0.1  # it matters
    np.testing.assert_allclose(backbone.logits(ids, adapter), expected, atol=1e-4, rtol=0)
    assert_same_greedy_tokens(backbone, adapter, theirs, ids)


@pytest.mark.parametrize("name", ["llama: biases", "gemma"])
def test_a_lora_in_peft_gives_the_same_logits_and_tokens(name, tmp_path):
    _, backbone = loaded(name)
    adapter, ids = low_rank(tuple(TARGETS), backbone), tokens(61, 2, 20)
    save_peft(tmp_path / "lora", adapter, backbone, base_model=BASE)
    _, theirs = beside(name, tmp_path / "lora")
    expected = reference_logits(theirs, ids)
    assert np.abs(expected - reference_logits(reference(name), ids)).max() > 0.1
    np.testing.assert_allclose(backbone.logits(ids, adapter), expected, atol=1e-4, rtol=0)
    assert_same_greedy_tokens(backbone, adapter, theirs, ids)


def assert_same_greedy_tokens(backbone: Backbone, adapter: Adapter, theirs: peft.PeftModel, ids: np.ndarray) -> None:
    adapters = jax.tree.map(lambda leaf: leaf[None], adapter)
    ours = generate_tokens(
        backbone.graph, backbone.frozen, adapters, list(ids), [0] * len(ids), new_tokens=12, end_tokens=(61,)
    )
    query = torch.tensor(ids)
    with torch.no_grad():
        written = theirs.generate(
            input_ids=query, attention_mask=torch.ones_like(query), max_new_tokens=12, do_sample=False
        )
    assert [row.tolist() for row in ours] == written[:, -12:].tolist() and len(
        {*written[:, -12:].flatten().tolist()}
    ) > 1


@pytest.mark.parametrize("adapter", [prompt(), low_rank(), low_rank(("o", "down"), rank=5)])
def test_what_leaves_comes_back_bit_for_bit(adapter, tmp_path):
    save_peft(tmp_path / "out", adapter, tiny(), base_model=BASE)
    again = load_peft(tmp_path / "out", tiny())
    chex.assert_trees_all_equal(again, adapter)
    assert peft.PeftConfig.from_pretrained(tmp_path / "out").base_model_name_or_path == BASE


def test_a_lora_that_peft_has_made_computes_the_same_here(tmp_path):
    """Its scale, 12 / 3, goes into B."""
    _, backbone = loaded("llama: biases")
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=3, lora_alpha=12, target_modules=["q_proj", "up_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    theirs = peft.get_peft_model(reference("llama: biases"), config).eval()
    theirs.save_pretrained(tmp_path)
    adapter, ids = load_peft(tmp_path, backbone), tokens(61, 2, 20)
    assert {*adapter["lora"]} == {"q", "up"} and adapter["lora"]["q"]["a"].shape == (3, 32, 3)
    np.testing.assert_allclose(backbone.logits(ids, adapter), reference_logits(theirs, ids), atol=1e-4, rtol=0)


def test_a_prompt_that_peft_has_made_comes_in(tmp_path):
    config = peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(reference("llama"), config)
    theirs.save_pretrained(tmp_path)
    expected = theirs.prompt_encoder["default"].embedding.weight.detach().numpy()
    np.testing.assert_array_equal(load_peft(tmp_path, tiny())["prompt"], expected)


def test_gpt_neox_takes_the_matrices_that_stand_alone(tmp_path):
    name = "gpt-neox"
    _, backbone = loaded(name)
    adapter, ids = low_rank(("o", "up", "down"), backbone), tokens(61, 2, 20)
    save_peft(tmp_path / "lora", adapter, backbone, base_model=BASE)
    _, theirs = beside(name, tmp_path / "lora")
    np.testing.assert_allclose(backbone.logits(ids, adapter), reference_logits(theirs, ids), atol=1e-4, rtol=0)
    with pytest.raises(InputError, match=r"a LoRA on 'q' has no place in PEFT: .*'gpt_neox'.*merge it"):
        save_peft(tmp_path / "new", low_rank(("q",), backbone), backbone, base_model=BASE)
    assert not (tmp_path / "new").exists()


def test_a_model_without_a_hugging_face_folder_has_no_peft_folder_of_a_lora(tmp_path):
    palm = dataclasses.replace(tiny(), config=dataclasses.replace(TINY, family="palm"))
    with pytest.raises(InputError, match="models of the family 'palm' have no Hugging Face folder"):
        save_peft(tmp_path / "new", low_rank(), palm, base_model=BASE)


CHANGES = {
    "other types": ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported; supported: PROMPT_TUNING, LORA"),
    "rslora": ({"use_rslora": True}, "use_rslora = true is not supported"),
    "dora": ({"use_dora": True}, "use_dora = true is not supported"),
    "ranks": ({"rank_pattern": {"q_proj": 4}}, 'rank_pattern = {"q_proj": 4} is not supported'),
    "scales": ({"alpha_pattern": {"q_proj": 4}}, 'alpha_pattern = {"q_proj": 4} is not supported'),
    "biases": ({"bias": "lora_only"}, 'bias = "lora_only" is not supported'),
    "whole modules": ({"modules_to_save": ["lm_head"]}, 'modules_to_save = ["lm_head"] is not supported'),
    "another model beneath": ({"init_lora_weights": "pissa"}, 'init_lora_weights = "pissa" is not supported'),
    "tasks": ({"task_type": "SEQ_CLS"}, 'task_type = "SEQ_CLS" is not supported'),
    "what is to come": ({"use_news": True}, "use_news = true is not supported"),
    "no rank": ({"r": None}, "r must be a positive number below 2**31, not None"),
    "no scale": ({"lora_alpha": 0}, "lora_alpha must be a positive number below 2**31, not 0"),
    "another rank": ({"r": 4}, "the LoRA on q has rank 2, not r = 4"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_no_adapter_here_can_be_is_refused_by_name(case, tmp_path):
    fields, message = CHANGES[case]
    folder = save_peft(tmp_path / "lora", low_rank(), tiny(), base_model=BASE)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(InputError) as raised:
        load_peft(folder, tiny())
    assert message in str(raised.value) and str(folder) in str(raised.value) and "\n" not in str(raised.value)


LAYER = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
TENSORS = {
    "a layer missing": ({LAYER + "A.weight": None}, f"{LAYER}A.weight is missing; a LoRA here has all layers"),
    "a magnitude": ({LAYER + "magnitude_vector": np.ones(32)}, f"{LAYER}magnitude_vector is not part of a LoRA"),
    "ranks by layer": ({LAYER + "A.weight": np.ones((4, 32))}, f"{LAYER}A.weight has shape [4, 32], that of the first"),
    "another module": ({"base_model.model.lm_head.lora_A.weight": np.ones((2, 32))}, "lm_head.lora_A.weight is not"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_make_no_lora_here_are_refused_by_name(case, tmp_path):
    changes, message = TENSORS[case]
    folder = save_peft(tmp_path / "lora", low_rank(), tiny(), base_model=BASE)
    file = folder / "adapter_model.safetensors"
    changed = load_file(file) | changes
    save_file({name: np.asarray(value, np.float32) for name, value in changed.items() if value is not None}, file)
    with pytest.raises(InputError) as raised:
        load_peft(folder, tiny())
    assert message in str(raised.value) and str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            soft_prompt(dataclasses.replace(tiny(), config=TINY), length=3),
            r"the prompt has shape \[3, 32\].*width is 16",
        ),
        (low_rank(), r"A of [qk] has shape \[3, 32, 2\], the model's \[3, 16, 2\]"),
    ],
)
def test_the_adapter_of_another_model_is_refused(adapter, message, tmp_path):
    folder = save_peft(tmp_path / "out", adapter, tiny(), base_model=BASE)
    narrow = Backbone.random(dataclasses.replace(TINY, width=16))
    with pytest.raises(InputError, match=message):
        load_peft(folder, narrow)
    with pytest.raises(InputError, match=message):
        save_peft(tmp_path / "new", adapter, narrow, base_model=BASE)


def test_a_damaged_folder_is_named(tmp_path):
    folder = save_peft(tmp_path / "out", prompt(), tiny(), base_model=BASE)
    with pytest.raises(InputError, match="is not empty"):
        save_peft(folder, prompt(), tiny(), base_model=BASE)
    (folder / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: not a readable safetensors file"):
        load_peft(folder, tiny())
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match=r"adapter_config\.json: not JSON"):
        load_peft(folder, tiny())


@pytest.mark.parametrize("name", ["llama: biases", "gpt-neox"])
def test_a_merged_model_computes_what_the_backbone_computes_with_the_lora(name, tmp_path):
    """In transformers and here; GPT-NeoX's query, key and value stand in one matrix again."""
    _, backbone = loaded(name)
    targets = tuple(target for target in TARGETS if target != "gate" or backbone.config.gated)
    adapter, ids = low_rank(targets, backbone), tokens(61, 2, 20)
    expected = backbone.logits(ids, adapter)
    assert np.abs(expected - backbone.logits(ids)).max() > 0.1
    save(tmp_path / "merged", backbone.config, jax.device_get(merge(backbone.frozen, adapter)))
    np.testing.assert_allclose(Backbone.load(tmp_path / "merged").logits(ids), expected, atol=1e-4, rtol=0)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    np.testing.assert_allclose(reference_logits(theirs, ids), expected, atol=1e-4, rtol=0)


def test_a_lora_without_effect_merges_to_the_same_weights():
    merged = merge(tiny().frozen, lora(tiny(), rank=2, targets=("q", "down")))
    chex.assert_trees_all_equal(merged, tiny().frozen)


def test_a_prompt_cannot_be_merged_and_nothing_into_int8():
    with pytest.raises(InputError, match="a soft prompt is not a change of the weights"):
        merge(tiny().frozen, prompt())
    with pytest.raises(InputError, match="without quantize"):
        merge(Backbone.random(TINY, quantize="int8").frozen, lora(tiny(), rank=2, targets=("q",)))
