"""Super-NaturalInstructions, for users: task files as published, and data sets prepared from them.

    sni.prepare("natural-instructions", "data")  # once: three partitions on disk
    clients = sni.open("data/federated_sni/hhf")
    clients.train[0]  # the examples of a client

Reference: Wang et al., Super-NaturalInstructions, EMNLP 2022, https://arxiv.org/abs/2204.07705.
"""

from profit_jax.data.prepare import Prepared, prepare
from profit_jax.data.store import FederatedSNI, open
from profit_jax.data.tasks import Demonstration, Instance, Task, descriptions, parse_task, read_task, task_files

__all__ = [
    "Demonstration",
    "FederatedSNI",
    "Instance",
    "Prepared",
    "Task",
    "descriptions",
    "open",
    "parse_task",
    "prepare",
    "read_task",
    "task_files",
]
