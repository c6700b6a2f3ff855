"""Workdirs as a run would have written them, with numbers chosen for arithmetic by hand."""

import json
from pathlib import Path
from typing import Any


def round_line(number: int, **changes: Any) -> dict[str, Any]:
    line = {
        "round": number,
        "loss": 4.0 / (number + 1),
        "loss_weight": 512.0,
        "adapter_norm": 10.0,
        "client_gradient_norm": 0.25,
        "adapter_change_norm": 0.5,
        "seconds": 0.1,
    }
    return line | changes


def client_line(client: int, epoch: int, local: float, robust: float, **changes: Any) -> dict[str, Any]:
    line = {
        "client": client,
        "point": "epoch",
        "epoch": epoch,
        "alpha": 1.0,
        "train_loss": None if epoch == 0 else 2.0,
        "local": local,
        "local_weight": 10 * (client + 1),  # unequal: means must not use it
        "global": robust,
        "global_weight": 40,
    }
    return line | changes


def write_run(
    folder: Path, rounds: list[dict[str, Any]] | None = None, clients: list[dict[str, Any]] | None = None
) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"algorithm": "fed_avg", "partition": "hhf", "seed": 0}))
    for name, lines in (("metrics.jsonl", rounds), ("clients.jsonl", clients)):
        if lines is not None:
            (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def two_epochs() -> list[dict[str, Any]]:
    """Two clients at epochs 0 and 4; by hand, means (0.2, 0.4) then (0.5, 0.2)."""
    return [
        client_line(0, 0, 0.1, 0.4),
        client_line(1, 0, 0.3, 0.4),
        client_line(0, 4, 0.4, 0.1),
        client_line(1, 4, 0.6, 0.3),
    ]
