"""The same round as torch runs it: PEFT on transformers, one client after another, a batch padded to its own longest.

Two ways, from the same weights, over the same batches, with the same loss, optimizers and start:

    loop      by hand: a forward and a backward pass and an optimizer step for each batch
    trainer   federated torch frameworks: a fresh `transformers.Trainer` for each client in each round

Both set the adapter of a PEFT model back before each client, and give the server the mean of the clients' changes.
Frozen weights take no gradient. Logits are computed at every position, which is what models of transformers do unless
told otherwise. On a CPU torch has all cores (fewer with OMP_NUM_THREADS); on a GPU it runs on JAX's first, under
autocast where the config's dtype is bfloat16. The sides take turns, so that other work on the machine slows all.

The line's numbers, beside those of a round:

    seconds_per_round                  of each side, the median over `rounds` after the first
    times_faster                       of ours than loop and trainer: the ratio of these medians
    rounds_to_pay_back_compiling       after so many rounds ours has caught up with the loop, compiling included
    plan_seconds                       to lay the cohort out, which training does while the round before it runs
    torch_positions_per_real_position  what padding to the batch's longest leaves
    adapter_difference                 |ours - theirs| / |ours - start| after the first round, norms over the adapter;
                                       of SGD rounding, of Adam also where it makes a sign of a gradient near zero
    share_of_matrix_rate               as of any round
    share_in_products                  the same of all matrix products that are computed: with padding, attention,
                                       adapters. What is left of the round is elementwise work and dispatch
    torch_matrix_rate_share            the rate of torch's own product, of the rate of ours: what is no merit of the
                                       round's, but of the libraries that multiply
    bound                              these shares and both sides' positions per real position, in words
"""

import functools
import gc
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peft
import torch
import transformers
from ml_collections import ConfigDict
from torch.nn import functional

import profit_jax as pj
from launch import _bench_round
from launch._timing import matrix_rate, matrix_size, product_rate, seconds
from profit_jax import trees
from profit_jax.adapters import load_peft, save_peft
from profit_jax.backbone.save import save
from profit_jax.data.cohort import Batches
from profit_jax.data.encode import Encoded
from profit_jax.errors import InputError
from profit_jax.experiment.plan import arithmetic, model_flops
from profit_jax.typing import Adapter

IGNORED = -100  # the label of a position that is asked for nothing

Tensors = dict[str, torch.Tensor]
Optimizer = Callable[[Sequence[torch.nn.Parameter]], torch.optim.Optimizer]
LocalTraining = Callable[[peft.PeftModel, Batches, torch.optim.Optimizer], None]


def measure(config: ConfigDict) -> dict[str, Any]:
    """Times round 0 of the config here, by the torch loop and by Trainers, in turns.

    Raises:
      InputError: fields that torch has no counterpart of here, or no round to time.
    """
    if config.quantize:
        raise InputError("--against=torch compares weights as they are: leave quantize empty")
    if jax.default_backend() == "cpu" and config.dtype != "float32":
        raise InputError(f"--against=torch compares on a CPU in float32, not {config.dtype}: set dtype=float32")
    if jax.default_backend() != device().type.replace("cuda", "gpu"):
        raise InputError(f"JAX runs on {jax.default_backend()}, torch on {device().type}: set JAX_PLATFORMS for both")
    if config.rounds < 1:
        raise InputError(f"--against=torch times rounds: rounds is {config.rounds}, give at least 1")
    optimizers = optimizer(config.client_optimizer), optimizer(config.server_optimizer)
    made = _bench_round.setting(config, lanes=1, mesh=None)
    plan, batches = made.plan(0), made.batches(0)
    algorithm = _bench_round.algorithm(config, made.model)
    ours = _bench_round.Rounds(algorithm, made.adapter, plan.cohort)
    reference = peft_model(made.model, made.adapter)
    theirs = {each.__name__: TorchRounds(reference, each, batches, *optimizers) for each in (loop, trainer)}
    sides = {"ours": ours, **theirs}
    first = {name: seconds(side) for name, side in sides.items()}
    trained = jax.device_get(ours.adapter())
    apart = {name: difference(trained, side.adapter(made.model), made.adapter) for name, side in theirs.items()}
    median, rate = in_turns(sides, config.rounds, config.dtype)
    library = torch_matrix_rate(config.dtype) / rate
    compiling, possible = first["ours"] - median["ours"], rate * median["ours"]
    needed = model_flops(made.model.config, plan) / possible
    computed = arithmetic(algorithm, ours.state, plan.cohort).flops / possible
    rows = config.prompt_length if config.adapter == "prompt" else 0
    waste = padded_positions(batches, rows) / plan.real_positions
    return {
        **_bench_round.told(config),
        "parameters": trees.count(made.model.frozen),
        "local_steps": config.local_steps,
        "batch_size": config.batch_size,
        "torch_threads": torch.get_num_threads(),
        "positions_per_real_position": round(plan.waste, 3),
        "torch_positions_per_real_position": round(waste, 3),
        "seconds_per_round": {name: round(taken, 4) for name, taken in median.items()},
        "times_faster": {name: round(median[name] / median["ours"], 2) for name in theirs},
        "adapter_difference": {name: float(f"{each:.2g}") for name, each in apart.items()},
        "compile_seconds": round(compiling, 2),
        "rounds_to_pay_back_compiling": paid_back(compiling, median["loop"] - median["ours"]),
        "plan_seconds": round(seconds(lambda: made.plan(0)), 4),
        "matrix_rate_gflop_per_second": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(needed, 3),
        "share_in_products": round(computed, 3),
        "torch_matrix_rate_share": round(library, 3),
        "bound": f"{computed:.0%} in products ({needed:.0%} needed), positions {plan.waste:.2f}, torch {waste:.2f}, "
        f"whose products are {library:.2f} times as fast",
    }


def in_turns(sides: Mapping[str, Callable[[], None]], rounds: int, dtype: str) -> tuple[dict[str, float], float]:
    """Each side's median seconds, and the machine's matrix rate around our rounds."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    rates: list[float] = []
    gc.freeze()  # a Trainer collects garbage after each client: of its own, not of what JAX and our data hold beside it
    for _ in range(rounds):
        before = matrix_rate(dtype)
        for name, side in sides.items():
            times[name].append(seconds(side))
            if name == "ours":
                rates.append((before + matrix_rate(dtype)) / 2)
    gc.unfreeze()
    return {name: statistics.median(taken) for name, taken in times.items()}, statistics.median(rates)


class TorchRounds:
    """One cohort's round, again and again, each from the adapter that the last one left, the first from the model's.

    Several may share a model: each has its own adapter, and sets the model's to it before it trains.
    """

    def __init__(
        self,
        model: peft.PeftModel,
        local_training: LocalTraining,
        clients: Sequence[Batches],
        client_optimizer: Optimizer,
        server_optimizer: Optimizer,
    ):
        self._model, self._local_training, self._clients = model, local_training, clients
        self._client_optimizer = client_optimizer
        self._trained = [each for each in model.parameters() if each.requires_grad]
        self._global = [torch.nn.Parameter(each.detach().clone()) for each in self._trained]
        self._server = server_optimizer(self._global)

    def __call__(self) -> None:
        """A round of FedAvg: clients from the global adapter, then a step of the server on their mean change."""
        self._server.zero_grad()
        mean = [torch.zeros_like(part) for part in self._global]
        for client in self._clients:
            self._dispatch()
            self._local_training(self._model, client, self._client_optimizer(self._trained))
            for change, part, own in zip(mean, self._global, self._trained):
                change += (part.detach() - own.detach()) / len(self._clients)
        for part, change in zip(self._global, mean):
            part.grad = change
        self._server.step()
        wait()

    def adapter(self, backbone: pj.Backbone) -> Adapter:
        """As it is now, in our form."""
        self._dispatch()
        with tempfile.TemporaryDirectory() as folder:
            self._model.save_pretrained(folder, save_embedding_layers=False)
            return load_peft(folder, backbone)

    def _dispatch(self) -> None:
        with torch.no_grad():
            for part, own in zip(self._global, self._trained):
                own.copy_(part)


def loop(model: peft.PeftModel, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    """A client's local steps, by hand."""
    model.train()
    for batch in batches:
        optimizer.zero_grad()
        loss(model, padded(batch)).backward()
        optimizer.step()


def trainer(model: peft.PeftModel, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    """A client's local steps, by a `Trainer` of its own that neither logs, saves, clips nor shuffles."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=len(batches[0]),
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            max_grad_norm=0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=device().type == "cpu",
            dataloader_pin_memory=False,
        )
        constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        each = [example for batch in batches for example in batch]
        # pyrefly: ignore[bad-argument-type]  a list has all that a data set needs
        own = _Trainer(model, arguments, padded, train_dataset=each, optimizers=(optimizer, constant))
        own.remove_callback(transformers.PrinterCallback)
        own.train()


class _Trainer(transformers.Trainer):
    """With the loss of Profit Eq. 1 instead of the mean over target tokens."""

    def compute_loss(self, model: torch.nn.Module, inputs: Tensors, *_: Any, **__: Any) -> torch.Tensor:
        return loss(model, inputs)


def loss(model: torch.nn.Module, batch: Tensors) -> torch.Tensor:
    """The mean over examples of the target's negative log-likelihood (Profit Eq. 1)."""
    batch = {name: leaf.to(device()) for name, leaf in batch.items()}
    with torch.autocast(device().type, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits  # [B, K + T, V]
    # A position is asked for the token after it; a soft prompt's rows, which stand in front, for nothing.
    rows = logits.shape[1] - batch["labels"].shape[1]
    asked = functional.pad(batch["labels"], (rows, 1), value=IGNORED)[:, 1:]
    total = functional.cross_entropy(logits.flatten(0, 1), asked.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / len(logits)


def padded(batch: Sequence[Encoded]) -> Tensors:
    """Ids, mask and labels of a batch, `[B, T]` each, T the length of its longest example."""
    whole = [torch.tensor(np.concatenate(example), dtype=torch.long) for example in batch]
    labels = [each.clone() for each in whole]
    for each, (query, _) in zip(labels, batch):
        each[: len(query)] = IGNORED
    pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return {
        "input_ids": pad(whole),
        "attention_mask": pad([torch.ones_like(each) for each in whole]),
        "labels": pad(labels, padding_value=IGNORED),
    }


def padded_positions(clients: Sequence[Batches], prompt_rows: int) -> int:
    """Positions that torch computes in a round."""
    return sum(
        len(batch) * (prompt_rows + max(len(query) + len(target) for query, target in batch))
        for client in clients
        for batch in client
    )


def peft_model(backbone: pj.Backbone, adapter: Adapter) -> peft.PeftModel:
    """The backbone and the adapter as `peft` reads them from folders; only the adapter takes gradients."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[str(jax.tree.leaves(backbone.frozen)[0].dtype)]
    with tempfile.TemporaryDirectory() as folder:
        model, own = Path(folder) / "model", Path(folder) / "adapter"
        save(model, backbone.config, jax.device_get(backbone.frozen))
        save_peft(own, adapter, backbone, base_model=str(model))
        frozen = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
        frozen.config.use_cache = False  # keys and values of earlier positions are for generation
        made = peft.PeftModel.from_pretrained(frozen, own)  # which has no `is_trainable` for a soft prompt
    for name, part in made.named_parameters():
        part.requires_grad_("prompt_encoder" in name or "lora_" in name)
    return made.to(device())


def device() -> torch.device:
    """Where torch computes: on a GPU where it sees one and JAX does too."""
    return torch.device("cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu")


def wait() -> None:
    """Until torch has done what it was asked."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def torch_matrix_rate(dtype: str) -> float:
    """`matrix_rate` of torch's product."""
    x = torch.randn(matrix_size(), matrix_size(), dtype=getattr(torch, dtype), device=device())

    def product() -> None:
        x @ x
        wait()

    return product_rate(product, len(x))


def optimizer(fields: ConfigDict) -> Optimizer:
    """Makes torch's optimizer of a config's name, learning rate and settings.

    Raises:
      InputError: one that is not compared.
    """
    if fields.name == "sgd":
        return functools.partial(torch.optim.SGD, lr=fields.learning_rate)
    if fields.name == "adam":
        betas = (fields.adam.b1, fields.adam.b2)
        return functools.partial(torch.optim.Adam, lr=fields.learning_rate, betas=betas, eps=fields.adam.eps)
    raise InputError(f"--against=torch compares the optimizers sgd and adam, not {fields.name!r}")


def difference(ours: Adapter, theirs: Adapter, start: Adapter) -> float:
    """How far two adapters are apart, relative to how far ours has come from the start."""
    apart, moved = (trees.norm(jax.tree.map(jnp.subtract, ours, other)) for other in (theirs, start))
    return float(apart / moved)


def paid_back(compiling: float, gained: float) -> int | None:
    """After how many rounds the time gained in each is that of compiling; None if nothing is gained."""
    return math.ceil(compiling / gained) if gained > 0 else None
