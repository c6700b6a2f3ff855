"""Personalized perplexity on a trained model and real instructions, against transformers with the LoRA merged in."""

import numpy as np
import optax
import pytest

import perfit_jax as pf
import profit_jax as pj
from profit_jax.data import instructions, shares

pytestmark = pytest.mark.real_data


def test_perplexity_of_pruned_clients_equals_that_of_merged_weights_in_transformers(real_data, stories):
    """Texts go through the model's own tokenizer and template here and there; every client has its own merged model."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = real_data / "data" / "databricks-dolly-15k" / "databricks-dolly-15k.jsonl"
    data = instructions.load(f"dolly:{file}", rows=600)
    dealt = shares.pathological([example.task_type for example in data.examples], 2, size=15, seed=0)
    train, test = shares.clients(data.examples, dealt, seed=0)
    backbone = pj.Backbone.load(stories)
    encoder = pj.Encoder(backbone.tokenizer, max_query=400, max_target=100)
    layout = pj.Layout(row_width=32)
    settings = {"encoder": encoder, "layout": layout}
    masks = pf.search(backbone, train, rank=2, epochs=1, init="gaussian", progress=False, **settings)
    method = pf.perfit(backbone.loss, masks, client_optimizer=optax.adam(1e-3))
    measured = pf.Perplexity(method, test, **settings)(method.start(masks.adapter))

    tokenizer = AutoTokenizer.from_pretrained(stories)
    for row in measured.clients:
        model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
        own = masks.space.unflatten(np.where(masks.dense(row["client"]), plain(masks), 0)[None])["lora"]
        for target, factors in own.items():
            for layer, block in enumerate(model.model.layers):
                change = np.asarray(factors["a"][0, layer], np.float64) @ np.asarray(factors["b"][0, layer], np.float64)
                getattr(block.self_attn, f"{target}_proj").weight.data += torch.tensor(change.T, dtype=torch.float32)
        total = count = 0
        for example in test[row["client"]]:
            query = tokenizer.encode(example.query + "\n", add_special_tokens=False)[-(400 - 1) :]
            target = [*tokenizer.encode(example.targets[0], add_special_tokens=False), tokenizer.eos_token_id][:100]
            ids = torch.tensor([[tokenizer.bos_token_id, *query, *target]])
            with torch.no_grad():
                scores = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
            picked = scores[torch.arange(len(ids[0]) - 1), ids[0, 1:]][-len(target) :]
            total, count = total - float(picked.sum()), count + len(target)
        assert row["tokens"] == count
        assert row["nll"] == pytest.approx(total / count, rel=1e-4)  # float32 through five layers


def plain(masks: pf.Masks) -> np.ndarray:
    """The expanded LoRA as one flat vector."""
    leaves = masks.adapter["lora"]
    return np.concatenate([np.asarray(leaves[t][f]).ravel() for t in sorted(leaves) for f in ("a", "b")])
