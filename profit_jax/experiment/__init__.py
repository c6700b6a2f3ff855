"""The loop, its checkpoints and its records."""

from profit_jax.experiment.checkpoint import Checkpoints, read_adapter, read_checkpoint
from profit_jax.experiment.loop import Evaluation, Result, train
from profit_jax.experiment.record import Workdir
from profit_jax.experiment.trial import with_flights
from profit_jax.experiment.writers import Point, TensorBoard, WandB, Writer

__all__ = [
    "Checkpoints",
    "Evaluation",
    "Point",
    "Result",
    "TensorBoard",
    "WandB",
    "Workdir",
    "Writer",
    "read_adapter",
    "read_checkpoint",
    "train",
    "with_flights",
]
