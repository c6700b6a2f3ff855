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
r"""
# PerFIT in ten minutes

Clients tune a language model on their own instructions and average what they have learned. Plain federated tuning
(**FIT**) gives all of them the same LoRA, $\Delta\theta = A B$. **PerFIT** lets each client choose the parameters that
matter for *its* data: from a LoRA of a larger rank it keeps a personal sparse part with as many parameters as FIT has,
tunes that alone, and shares each parameter with the clients that kept it too.

Equations and algorithms are the paper's. Everything here is small, so that two CPU cores suffice: an embedded model of
two million parameters, generated instructions, eight clients, one seed.
"""

# %%
import shutil
import sys

if "google.colab" in sys.modules:
    source = "git+https://github.com/OWNER/profit-jax"  # the repository that this notebook is from
    extra = "[cuda12]" if shutil.which("nvidia-smi") else ""
    # %pip install -q "profit-jax{extra} @ {source}"
# %matplotlib inline

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import perfit_jax as pf
import profit_jax as pj
from profit_jax.plots import masks as mask_plots
from profit_jax.plots import perplexity
from profit_jax.plots.records import Run

jax.devices()

# %% [markdown]
"""
## Clients that disagree

The embedded instructions have Dolly's eight categories. All of them ask the same few things about the same kind of
story; what is wanted in return depends on the category, which the text does not tell. Eight clients hold two
categories each (the paper's pathological split), 32 rows, of which a fifth is for testing.
"""

# %%
data = pj.data.instructions.load("tiny")
shares = pj.data.shares.pathological([example.task_type for example in data.examples], clients=8, size=32, seed=0)
train, test = pj.data.shares.clients(data.examples, shares, seed=0)
for client in (0, 1):
    print(f"client {client} holds {' and '.join(sorted({example.task_type for example in train[client]}))}")
print(f"\n{train[0][0].query}\n{train[0][0].targets[0]}")

# %% [markdown]
r"""
## Search: which parameters are mine?

Algorithm 1. The LoRA is expanded from rank $r = 8$ to $R = r / (1 - s) = 16$ with sparsity $s = 1/2$. $A$ and $B$ begin
at random: with $B = 0$, as LoRA has it, every gradient of $A$ would be zero, and with it what it is ranked by
(Section 4.2). Their standard deviation is the paper's $1 / \sqrt{d}$ at its models' width, $d = 4096$; at this model's,
192, it would drown the weights. Each client ranks its parameters by what removing one would change of its loss, to
first order,

$$I_{\Delta\theta_i^j} = \left|
\frac{\partial \ell_i(\Delta\theta_i^j; \mathcal{D}_i)}{\partial \Delta\theta_i^j} \Delta\theta_i^j
\right| \qquad (2)$$

and prunes the lowest in $T_p$ epochs until the parameters of rank 8 are left. No training happens yet.
"""

# %%
backbone = pj.Backbone.load("tiny")
texts = {
    "encoder": pj.Encoder(backbone.tokenizer, max_query=79, max_target=10),  # tokens; longer texts are cut
    "layout": pj.Layout(row_width=16, positions_per_flight=1760, slack=0.5),  # changes no result
}
masks = pf.search(
    backbone, train, sparsity=0.5, rank=8, metric="first", epochs=2, init="gaussian", deviation=1 / 64, **texts
)
print(f"each client keeps {masks.owned[0]:,} of {masks.space.size:,} parameters")

# %% [markdown]
"""
## Look at a mask

A mask says of every parameter whether the client keeps it. On the left the share that client 0 keeps in each matrix, by
layer; on the right how much more or less of it client 1 keeps. The search decides freely where the parameters go, so
the shares differ between matrices, while the whole is one half for everybody.
"""


# %%
def kept(client: int) -> np.ndarray:
    """The share of parameters that a client keeps, `[matrices, layers]`."""
    lora = masks.space.unflatten(masks.dense(client)[None])["lora"]  # leaves [1, L, in, R] and [1, L, R, out]
    return np.array([lora[target][factor].mean((0, 2, 3)) for target in "qkv" for factor in "ab"])


def draw(axes: plt.Axes, values: np.ndarray, title: str, **look: object) -> None:
    """A map of numbers by matrix and layer."""
    image = axes.imshow(values, **look)
    axes.figure.colorbar(image, ax=axes)
    axes.set(title=title, xlabel="layer", xticks=range(values.shape[1]))
    axes.set_yticks(range(6), [f"{factor} of {target}" for target in "qkv" for factor in "AB"])


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
draw(left, kept(0), "share kept by client 0", vmin=0, vmax=1)
difference = kept(1) - kept(0)
limit = np.abs(difference).max()
draw(right, difference, "client 1 minus client 0", cmap="RdBu", vmin=-limit, vmax=limit)

# %% [markdown]
"""
Two clients' masks differ in many places (Figure 7 of the paper): the Hamming distance is the share of parameters that
one of them keeps and the other does not. Masks drawn at random would be 0.5 apart.
"""

# %%
mask_plots.similarity({"": masks.similarity()})

# %% [markdown]
r"""
## Tune and aggregate

Algorithm 2. In each round half of the clients tune what they have kept (Equation 5), one epoch on their own rows. Then
the server averages every parameter among those of them that own it, weighed by their numbers of rows (Algorithm 3),

$$\theta_j \leftarrow \sum_{k \in \text{owners of } j} \frac{N^k}{\sum_{l} N^l}\, \theta_j^k$$

and gives each of them back the parameters that it owns. **FIT** is the same loop with a LoRA of rank 8, which everybody
owns whole. A sweep over five learning rates from 0.001 to 0.1 chose the rate of each, for this model; FIT's is the
smallest of them.

The measure is *personalized perplexity*: $\exp$ of the mean negative log-likelihood of an answer's token, on each
client's own test rows; lower is better.
"""

# %%
ROUNDS = 9


def tune(name: str, method: pj.federated.Algorithm, adapter: dict) -> tuple[Run, object]:
    """Tunes from `adapter`; what was measured every third round, and the state at the end."""
    measure = pf.Perplexity(method, test, **texts)
    start = [{"round": 0, **row} for row in measure(method.init(adapter)).clients]
    result = pj.train(
        method,
        adapter,
        train,
        rounds=ROUNDS,
        clients_per_round=4,
        local_epochs=1,
        batch_size=8,
        weighting="examples",
        reduction="token",
        evaluate=measure,
        evaluate_every=3,
        **texts,
    )
    return Run(name, {"seed": 0}, perplexities=[*start, *result.clients]), result.state


def client_settings(learning_rate: float) -> dict:
    """Adam with the rate that falls as a cosine over the rounds to 0.0004 (the paper's form)."""
    schedule = optax.cosine_decay_schedule(1.0, ROUNDS, alpha=4e-4 / learning_rate)
    return {"client_optimizer": optax.adam(learning_rate, b2=0.99), "client_schedule": schedule}


method = pf.perfit(backbone.loss, masks, **client_settings(10**-1.5))
perfit, modules = tune("PerFIT, R = 16", method, masks.adapter)

lora = pj.lora(backbone, rank=8, targets=("q", "k", "v"), init="vanilla", seed=0)
plain = pj.fed_avg(backbone.loss, server_optimizer=optax.sgd(1.0), **client_settings(1e-3))
fit, _ = tune("FIT, r = 8", plain, lora)

# %%
perplexity.curves({"": perplexity.by_setting([fit, perfit])})

# %% [markdown]
"""
FIT stays where it was: no text tells which category is wanted, so one LoRA for all has little to gain. The mean hides
who gains. Below, each point is a client; under the diagonal PerFIT is better for it.
"""

# %%
perplexity.clients({"": [fit, perfit]})

# %%
for row in perplexity.summary(perplexity.by_setting([fit, perfit])):
    print(f"{row.label:16} mean perplexity {row.last:.3f} after round {row.round}")

# %% [markdown]
"""
A client's own LoRA has the expanded shape, with zeros where it owns nothing, and works wherever a LoRA does. One story,
four clients:
"""


# %%
def module(client: int) -> dict:
    """The LoRA that a client has at the end, leaves `[L, ...]`."""
    return jax.tree.map(lambda leaf: leaf[0], method.adapters(modules, np.array([client])))


query = test[0][0].query + "\n"  # a query ends in a line break
print(query)
for client in range(4):
    held = " and ".join(sorted({example.task_type for example in train[client]}))
    print(f"client {client}, {held}: {backbone.generate([query], module(client))[0]!r}")

# %% [markdown]
"""
## What this shows, and what it does not

One seed of a tiny model shows how the method works. Over five seeds of this setting (README.md, Results) PerFIT is
better than FIT at $R = 12$ and $R = 16$; with unequal resources the two could not be told apart. Categories disagree
here by design, which is where personal parameters help most; with another model and real instructions the difference
may be smaller, or go the other way. The paper's numbers are those of models with 7 billion parameters.

From here:

- `sparsity=(0.0, 0.25, 0.5)` in `search`: a third of the clients each keeps the parameters of rank 16, 12 and 8;
- `metric="second"` and `"mixed"`: Equations 3 and 4;
- with your own model and data: `bring_your_own.ipynb`;
- the paper's tables over several seeds, with intervals: `python -m launch.reproduce --list`.
"""
