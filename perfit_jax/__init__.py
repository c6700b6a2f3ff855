"""PerFIT: personalized federated instruction tuning by architecture search, on the machinery of `profit_jax`.

    import optax, profit_jax as pj, perfit_jax as pf

    masks = pf.search(backbone, clients, sparsity=0.5, rank=8, metric="first", epochs=5)
    method = pf.perfit(backbone.loss, masks, client_optimizer=optax.adam(5e-5, b2=0.99))
    result = pj.train(method, masks.adapter, clients, rounds=30, local_epochs=1, weighting="examples", ...)

Every client prunes an expanded LoRA to a personal sparse mask before training; rounds of local tuning follow,
aggregated coordinate by coordinate among the clients that own the coordinate.
"""

from perfit_jax.aggregate import aggregate
from perfit_jax.algorithm import perfit
from perfit_jax.masks import Masks
from perfit_jax.perplexity import Perplexity
from perfit_jax.search import search
from perfit_jax.space import Space, budget, expanded_rank

__all__ = ["Masks", "Perplexity", "Space", "aggregate", "budget", "expanded_rank", "perfit", "search"]
