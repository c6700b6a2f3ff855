"""Personalized perplexity: exp of the mean negative log-likelihood of a response token, on each client's own test rows.

Section 5: the paper reports the mean over clients, each counting once.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perfit_jax.groups import groups
from profit_jax import hosts
from profit_jax.data.cohort import Layout, Planner
from profit_jax.data.encode import EncodedClients, Encoder
from profit_jax.data.examples import Clients
from profit_jax.errors import InputError
from profit_jax.experiment import Evaluation
from profit_jax.federated import Algorithm
from profit_jax.federated.client import losses
from profit_jax.federated.mesh import over_clients
from profit_jax.typing import Array, Cohort, Frozen, Rows


class Perplexity:
    """Measures the adapters that an algorithm's state holds for every client; an `evaluate` for `train`."""

    def __init__(
        self,
        algorithm: Algorithm,
        clients: Clients,
        *,
        encoder: Encoder | None = None,
        layout: Layout | None = None,
        mesh: Mesh | None = None,
        clients_at_once: int = 16,
        group: np.ndarray | None = None,
    ):
        """Plans the clients' test examples.

        Args:
          algorithm: whose states are measured.
          clients: every client's test examples.
          encoder, layout, mesh: as in `experiment.train`.
          clients_at_once: clients whose adapters are in memory together, for each lane.
          group: the clients' resource groups `[n]`, recorded with their rows.
        """
        if not clients.sizes.all():
            raise InputError(f"client {int(np.argmin(clients.sizes))} has no test examples")
        layout = layout or Layout()
        data = EncodedClients(clients, encoder or Encoder(algorithm.loss.tokenizer))
        planner = Planner(layout, reduction="token", readers=hosts.readers(mesh, layout.lanes))
        members = groups(clients.sizes, clients_at_once * layout.lanes)
        # One step holds all of a client's examples, so its loss is the mean over all of its tokens.
        plans = [
            planner(
                group.tolist(), lambda place, group=group: [data.client(int(group[place]))] if group[place] >= 0 else []
            )
            for group in members
        ]
        self._clients = [plan.cohort.client for plan in plans]
        self._tokens = [plan.cohort.counts[:, 0] for plan in plans]
        place = functools.partial(over_clients, mesh=mesh) if mesh else jax.device_put
        self._cohorts = [place(plan.cohort) for plan in plans]
        self._group = np.zeros(len(clients), int) if group is None else group
        self._frozen = algorithm.loss.frozen

        def nll(frozen: Frozen, state: Any, cohort: Cohort) -> Array:
            def lane(client: Array, batch: Rows) -> Array:
                adapters = algorithm.adapters(state, client)
                return losses(algorithm.loss, frozen, adapters, batch, used)

            first = jax.tree.map(lambda leaf: leaf[:, 0], cohort.batches)
            used = jax.tree.map(lambda leaf: leaf[0], cohort.used)
            return jax.vmap(lane, spmd_axis_name="clients")(cohort.client, first)

        self.compiled = jax.jit(nll)

    def __call__(self, state: Any) -> Evaluation:
        """Rows of all clients, and the mean over clients of perplexity and of the token NLL."""
        nll, tokens = np.zeros(len(self._group)), np.zeros(len(self._group), int)
        for client, count, cohort in zip(self._clients, self._tokens, self._cohorts):
            present = client >= 0
            nll[client[present]] = hosts.gathered(self.compiled(self._frozen, state, cohort))[present]
            tokens[client[present]] = count[present]
        rows = [
            {"client": c, "group": int(self._group[c]), "nll": nll[c], "tokens": int(tokens[c]), "perplexity": ppl}
            for c, ppl in enumerate(np.exp(nll).tolist())
        ]
        return Evaluation({"perplexity": float(np.exp(nll).mean()), "nll": float(nll.mean())}, clients=rows)
