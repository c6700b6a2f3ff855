"""Workdirs as a run would have written them, with numbers chosen for arithmetic by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np


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


def perplexity_line(number: int, client: int, perplexity: float, **changes: Any) -> dict[str, Any]:
    line = {
        "round": number,
        "client": client,
        "group": 0,
        "nll": float(np.log(perplexity)),
        "tokens": 100 * (client + 1),  # unequal: means must not use it
        "perplexity": perplexity,
    }
    return line | changes


def write_perfit(
    folder: Path,
    perplexities: list[list[float]] = (),
    *,
    rounds: list[dict[str, Any]] | None = None,
    rank_before: int | None = None,
    masks: dict[str, np.ndarray] | None = None,
    **config: Any,
) -> Path:
    """A run of PerFIT; `perplexities` is `[rounds][clients]` from round 0 on."""
    folder.mkdir(parents=True)
    fields = {
        "stage": "perfit",
        "method": "perfit",
        "sparsity": 0.5,
        "rank": 8,
        "seed": 0,
        "split": "pathological",
        "rounds": 2,
        "clients": 2,
        "metric": "first",
        "init": "symmetric",
    }
    (folder / "config.json").write_text(json.dumps(fields | config))
    lines = [
        perplexity_line(number, client, perplexity)
        for number, row in enumerate(perplexities)
        for client, perplexity in enumerate(row)
    ]
    (folder / "perplexity.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if rounds is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounds))
    if rank_before is not None:
        parameters = {"trainable": [800, 800], "grid": 100 * rank_before, "rank": rank_before}
        (folder / "parameters.json").write_text(json.dumps(parameters))
    if masks is not None:
        np.savez(folder / "similarity.npz", **masks)
    return folder


def two_masks() -> dict[str, np.ndarray]:
    """The distances of two clients, 0.25 in the first module and 0.5 over all."""
    return {name: np.array([[0, value], [value, 0]]) for name, value in (("first", 0.25), ("all", 0.5))}


def two_epochs() -> list[dict[str, Any]]:
    """Two clients at epochs 0 and 4; by hand, means (0.2, 0.4) then (0.5, 0.2)."""
    return [
        client_line(0, 0, 0.1, 0.4),
        client_line(1, 0, 0.3, 0.4),
        client_line(0, 4, 0.4, 0.1),
        client_line(1, 4, 0.6, 0.3),
    ]


def write_done(folder: Path, launcher: str, seed: int, config: dict[str, Any]) -> None:
    """What a launcher leaves, with two clients and all that figures and measures read."""
    if launcher == "perfit_train":
        write_perfit(folder, [[8.0, 16.0], [4.0 + seed, 2.0]], masks=two_masks())
    elif launcher == "profit_train":
        write_run(folder, rounds=[round_line(number, validation_score=0.5 + 0.1 * seed) for number in (1, 2)])
    else:
        epochs = [line | {"local": line["local"] + 0.1 * seed} for line in two_epochs()]
        last = [line for line in epochs if line["epoch"]]
        genie = [line | {"point": "genie", "global": 0.5} for line in last]
        averaged = [
            line | {"point": "average", "alpha": alpha, "local": 0.2 + alpha * line["local"]}
            for line in last
            for alpha in config["personalize"]["average"]
        ]
        write_run(folder, clients=epochs + genie + averaged)
    stage = {"perfit_train": "perfit", "profit_train": "train", "profit_personalize": "personalize"}[launcher]
    (folder / "config.json").write_text(json.dumps({"stage": stage, **config, "seed": seed}))
