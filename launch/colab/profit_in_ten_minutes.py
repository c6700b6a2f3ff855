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
# Profit in ten minutes

Many clients hold text that they do not share. They train a **soft prompt** $P$ together, $k$ vectors that stand before
every query of a frozen language model. Then a client that was not there *personalizes* the prompt on its own data, and
the question of the Profit benchmark is: how much better does the prompt become for this client (**local score**), and
how much of what all clients have taught it does it forget (**global score**, the paper's robustness)?

Equations, sections and observations are the paper's. Everything here is small, so that two CPU cores suffice: an
embedded model of two million parameters, a generated corpus in the format of Super-NaturalInstructions, one seed.
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
import optax

import profit_jax as pj
from profit_jax.plots import tradeoff, training
from profit_jax.plots.records import Run

jax.devices()

# %% [markdown]
"""
## Clients

A task file holds a definition and instances: a query and its answers. HHF, the most heterogeneous of the paper's three
partitions, gives a training client instances of one type of task, here of one task. Types are split, not instances: the
tasks of test clients are of types that no training client has (Section 3, Figure 2).
"""

# %%
tasks = pj.data.tiny.write("profit_data/tiny")
prepared = pj.data.sni.prepare(tasks, "profit_data", partitions=["hhf"], chunk_size=400)
clients = pj.data.sni.open(prepared["hhf"].folder)
print(f"{len(clients.train)} training clients, {len(clients.test)} test clients")
for client in (0, 40):
    print(f"client {client}: {clients.train[client][0].query!r} -> {clients.train[client][0].targets[0]!r}")

# %% [markdown]
r"""
## Stage 1: train a prompt federatedly

Client $i$ with examples $(x_{i,j}, y_{i,j})$ has the loss

$$\mathcal{L}_i(P) = -\frac{1}{m_i} \sum_{j=1}^{m_i}
\log \mathbb{P}_\theta(\tau(y_{i,j}) \mid [P, E\tau(x_{i,j})]) \qquad (1)$$

In a round of FedAvg(Adam) the server sends $P$ to a cohort of clients; each takes a few steps of Adam on its own loss
and sends back how far it has come; the server takes the mean of these changes for a gradient, and one step of its own
Adam. Only $P$ trains and only $P$ travels: here $10 \times 192$ numbers.
"""


# %%
def adam(learning_rate: float) -> optax.GradientTransformation:
    """Adam as in Appendix C."""
    return optax.adam(learning_rate, b1=0.99, b2=0.999)


backbone = pj.Backbone.load("tiny")
texts = {
    "encoder": pj.Encoder(backbone.tokenizer, max_query=56, max_target=20),  # tokens; longer texts are cut
    "layout": pj.Layout(row_width=16, positions_per_flight=2048, slack=0.5),  # changes no result
}
prompt = pj.soft_prompt(backbone, length=10, init="gaussian", seed=0)
algorithm = pj.fed_avg(backbone.loss, client_optimizer=adam(0.1), server_optimizer=adam(0.1))
trained = pj.train(
    algorithm, prompt, clients.train, rounds=12, clients_per_round=8, local_steps=4, batch_size=4, **texts
)

# %% [markdown]
"""
Each round draws other clients, so its loss tells as much of the cohort as of the prompt. That the loss falls can be
seen nevertheless.
"""

# %%
training.loss([Run("FedAvg(Adam)", rounds=trained.history)])

# %% [markdown]
r"""
## Stage 2: personalize it

Six unseen clients start from this prompt, $P_\text{glob}$, and train on 24 examples of their own. After each epoch the
model answers questions, and the answers are scored by ROUGE-L: *local* is the mean over a client's own test questions,
*global* over questions drawn from all six. The paper has 32 clients and 2,048 global questions; with so few as here a
score is good to a few hundredths at best.

First with a small learning rate and with one ten times as large.
"""

# %%
test = pj.benchmark.choose_test_clients(clients.test, count=6, train_examples=24, test_examples=8, global_examples=24)


def personalize(optimizer: optax.GradientTransformation, **settings: object) -> pj.benchmark.Curve:
    """Four epochs on every test client, from the trained prompt."""
    return pj.benchmark.personalize(
        backbone, trained.adapter, test, optimizer=optimizer, epochs=4, batch_size=4, **texts, **settings
    )


small = personalize(adam(0.03))
large = personalize(adam(0.3), average=(0.0, 0.25, 0.5, 0.75, 1.0))
runs = [Run("rate 0.03", clients=small.rows), Run("rate 0.3", clients=large.rows)]
tradeoff.means({"": runs})

# %% [markdown]
r"""
**How to read it.** A curve begins at the ring, before personalization, and goes to the right as the prompt becomes the
client's own. Where it sinks, the prompt forgets. The paper's Observation 1: a small rate keeps more of the global score
and takes more epochs.

The dashed curve is one of the two heuristics of Observation 4, **model averaging**: no further training, but prompts
between the start and the end,

$$\alpha P_i + (1 - \alpha) P_\text{glob}, \qquad 0 \leq \alpha \leq 1$$

The other is **l2**: while training, the loss has the term $\frac{\lambda}{2} \lVert P_i - P_\text{glob} \rVert_F^2$
(Appendix C.2), here with $\lambda = 0.1$. In code it is a link of the optimizer, before Adam.
"""

# %%
l2 = personalize(optax.chain(pj.optim.proximal(0.1), adam(0.3)))
tradeoff.means({"": [*runs, Run("rate 0.3, l2", clients=l2.rows)]})

# %%
ends = {f"{name}, last epoch": curve.mean()[-1] for name, curve in (("0.03", small), ("0.3", large), ("0.3, l2", l2))}
ends |= {f"0.3, alpha = {point['alpha']:g}": point for point in large.mean("average")[1:-1]}
print(f"{'':20}{'local':>8}{'global':>8}")
for name, point in {"start": small.mean()[0], **ends}.items():
    print(f"{name:20}{point['local']:8.3f}{point['global']:8.3f}")

# %% [markdown]
"""
## What this shows, and what it does not

One seed of a tiny model with six test clients shows how the protocol works, not which method is better. Over five seeds
of this model and corpus (README.md, Results) a small rate keeps more of the global score than a large one, and so do l2
and model averaging at the same local score; l2 costs some of the best local score. That FedAvg(Adam) is better than
FedAvg(SGD) or FedSGD, Observation 3, could not be told there. The paper's numbers are those of PaLM 8B on
Super-NaturalInstructions.

From here:

- with your own model and data: `bring_your_own.ipynb`;
- the paper's figures over several seeds, with intervals: `python -m launch.reproduce --list`;
- training clients that are more alike: `"mhf"` or `"lhf"` in the place of `"hhf"`.
"""
