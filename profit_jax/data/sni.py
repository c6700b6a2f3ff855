"""Super-NaturalInstructions, for users: task files as published, and data sets prepared from them.

    clients = sni.open("…/federated_sni/hhf")  # as profit_jax.data.prepare has written it
    clients.train[0]  # the examples of a client

Reference: Wang et al., Super-NaturalInstructions, EMNLP 2022, https://arxiv.org/abs/2204.07705.
"""

from profit_jax.data.store import FederatedSNI, open
from profit_jax.data.tasks import Demonstration, Instance, Task, descriptions, parse_task, read_task, task_files

__all__ = [
    "Demonstration",
    "FederatedSNI",
    "Instance",
    "Task",
    "descriptions",
    "open",
    "parse_task",
    "read_task",
    "task_files",
]
