# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# Bring your own model and data

A model that `transformers` has saved, instructions in a JSON lines file, a LoRA tuned on them federatedly, and out
again to `peft`. The model and the file are made here, so that nothing is downloaded; put yours in their place.
"""

# %%
import shutil
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/OWNER/profit-jax"  # the repository that this notebook is from
    extra = "[cuda12]" if shutil.which("nvidia-smi") else ""
    # %pip install -q "profit-jax{extra} @ {source}" peft
# %matplotlib inline

# %%
import itertools
import json
import random
from pathlib import Path

import jax
import numpy as np
import optax
import peft
import torch
import transformers

import profit_jax as pj
from profit_jax.plots import training
from profit_jax.plots.records import Run

jax.devices()

# %% [markdown]
"""
## A model: any Hugging Face folder

A folder with `config.json`, safetensors and a tokenizer, of a family in README.md's table (Llama, Mistral, Qwen, Gemma,
GPT-NeoX). With a network, this gets you one:

    huggingface_hub.snapshot_download("HuggingFaceTB/SmolLM2-135M", local_dir="model")

Here `transformers` saves the embedded model, a Llama of two million parameters that knows a small generated world.
"""

# %%
embedded = pj.backbone.folder_of("tiny")
transformers.AutoModelForCausalLM.from_pretrained(embedded).save_pretrained("model")
transformers.AutoTokenizer.from_pretrained(embedded).save_pretrained("model")

backbone = pj.Backbone.load("model")
config = backbone.config
print(f"{config.family}: {config.layers} layers, width {config.width}, {config.vocabulary:,} tokens")

# %% [markdown]
"""
## Data: a JSON lines file

A row is an object with an `instruction`, an `output` and, if there is one, an `input`. Who holds a row is decided by
any column you name. Eight sites keep a register of what was lost there; each writes *thing; colour; name* in it, which
nothing in the instruction says.
"""

# %%
sites = ["kitchen", "school", "shop", "library", "park", "garden", "beach", "hall"]
names, colours = ["Anna", "Tom", "Lily", "Sam"], ["red", "blue", "green", "white"]
cases = [*itertools.product(names, colours, ["kite", "key", "ball", "cake", "spoon", "doll"])]
draw = random.Random(0)
with open("register.jsonl", "w", encoding="utf-8") as file:
    for site, (name, colour, thing) in ((site, case) for site in sites for case in draw.sample(cases, 40)):
        row = {
            "instruction": "Register it.",
            "input": f"{name} lost a {colour} {thing} in the {site}.",
            "output": f"{thing}; {colour}; {name}",
            "site": site,
        }
        file.write(json.dumps(row) + "\n")

# %% [markdown]
"""
Every site is a client, here with 40 different rows, a fifth of them for testing. A row becomes a query in Alpaca's
form. Other ways to deal rows are in `pj.data.shares`; clients can also be lists of `pj.Example` in a
`pj.MemoryClients`.
"""

# %%
data = pj.data.instructions.load("register.jsonl", category="site")
shares = pj.data.shares.pathological(
    [example.task_type for example in data.examples], clients=len(sites), classes_per_client=1, seed=0
)
train, test = pj.data.shares.clients(data.examples, shares, seed=0)
print(f"{len(train)} clients with {train.sizes.tolist()} rows to train on and {test.sizes.tolist()} to test with\n")
print(train[0][0].query, "\n" + train[0][0].targets[0])

# %% [markdown]
"""
## Tune

Plain federated averaging of a LoRA: in each of eight rounds four clients take an epoch of Adam on their own rows, and
the server takes the mean of their changes. Limits on tokens are to fit your texts: a longer query loses its beginning,
and `encoder.counts` counts such. The layout changes no result, only the time.
"""

# %%
encoder = pj.Encoder(backbone.tokenizer, max_query=79, max_target=10)
texts = {"encoder": encoder, "layout": pj.Layout(row_width=16, positions_per_flight=1760, slack=0.5)}
lora = pj.lora(backbone, rank=8, targets=("q", "k", "v"), init="vanilla", seed=0)
algorithm = pj.fed_avg(backbone.loss, client_optimizer=optax.adam(1e-2), server_optimizer=optax.sgd(1.0))
tuned = pj.train(
    algorithm,
    lora,
    train,
    rounds=8,
    clients_per_round=4,
    local_epochs=1,
    batch_size=8,
    weighting="examples",
    reduction="token",
    **texts,
)
print(dict(encoder.counts))
training.loss([Run("FedAvg of a LoRA", rounds=tuned.history)])

# %% [markdown]
"""
Has the model learned how the register is kept? Asked of the rows that no client has trained on:
"""


# %%
def right(adapter: dict | None) -> float:
    """The share of test rows that are answered to the letter. A query ends in a line break."""
    asked = [example for client in range(len(test)) for example in test[client]]
    answers = backbone.generate([example.query + "\n" for example in asked], adapter)
    print(f"wanted {asked[0].targets[0]!r}, written {answers[0]!r}")
    return float(np.mean([answer in example.targets for answer, example in zip(answers, asked)]))


before, after = right(None), right(tuned.adapter)
print(f"right to the letter: {before:.2f} before, {after:.2f} after")

# %% [markdown]
"""
## Take it with you: `peft`

`save_peft` writes a folder as `peft` does, of a LoRA and of a soft prompt alike; `peft` computes with it what we
compute.
"""

# %%
shutil.rmtree("adapter", ignore_errors=True)  # where this notebook was run before
pj.adapters.save_peft("adapter", tuned.adapter, backbone, base_model=str(Path("model").resolve()))
theirs = peft.AutoPeftModelForCausalLM.from_pretrained("adapter").eval()

query = test[0][0].query
tokens = encoder.queries([query])[0][None]  # [1, T]
with torch.no_grad():
    expected = theirs(torch.tensor(tokens)).logits.numpy()
    written = theirs.generate(input_ids=torch.tensor(tokens), max_new_tokens=10, do_sample=False)
with jax.default_matmul_precision("highest"):  # GPUs may round the factors of products
    ours = np.asarray(backbone.logits(tokens, tuned.adapter))
np.testing.assert_allclose(ours, expected, atol=1e-3)
print(f"largest difference of a logit: {np.abs(ours - expected).max():.1e}, of logits up to {np.abs(ours).max():.1f}")

answer = backbone.tokenizer.decode(written[0, tokens.shape[1] :].tolist())
print(f"peft writes {answer!r}, we {backbone.generate([query + chr(10)], tuned.adapter)[0]!r}")

# %% [markdown]
"""
And back: what `peft` has saved can be personalized, tuned on, or generated with here.
"""

# %%
theirs.save_pretrained("again")
again = pj.adapters.load_peft("again", backbone)
print("the same numbers:", jax.tree.all(jax.tree.map(np.array_equal, again, tuned.adapter)))

# %% [markdown]
"""
## What this shows, and what it does not

The path from your folder and file to an adapter that other tools read, on data that are easy to learn. How well a model
of yours learns your data is for you to measure; learning rates, rounds and ranks are to be searched anew
(`launch/sweep.py`). GPT-NeoX keeps query, key and value in one matrix, so a LoRA on one of them cannot go to `peft`;
`launch/export_adapter.py --merge` writes the whole model instead.
"""
