"""Takes an adapter out of a training run: as a Hugging Face PEFT folder, or merged into a copy of the model.

    python -m launch.export_adapter --workdir=runs/fedavg_adam --out=prompt
    python -m launch.export_adapter --workdir=runs/p_adam --client=12 --out=prompt-12
    python -m launch.export_adapter --workdir=runs/perfit-r16 --client=3 --out=lora-3
    python -m launch.export_adapter --workdir=runs/fit --merge --out=model

The workdir is one of profit_train (its prompt with the best validation score), profit_personalize or perfit_train (what
the last round left). Where each client has an adapter of its own, --client says whose: the number that clients.jsonl
or perplexity.jsonl gives it. PerFIT's sparse LoRA is written whole, zero where the client owns nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

import profit_jax as pj
from launch import _adapters
from launch._done import Done
from launch._main import command, run
from profit_jax.backbone.model import folder_of
from profit_jax.backbone.save import save

WORKDIR = flags.DEFINE_string("workdir", None, "Of the training run.", required=True)
CLIENT = flags.DEFINE_integer("client", None, "Whose adapter, where each client has its own.")
OUT = flags.DEFINE_string("out", None, "The new folder.", required=True)
MERGE = flags.DEFINE_bool("merge", False, "Write the whole model, float32, with a LoRA in its weights.")


def main(argv: Sequence[str]) -> Done:
    """Reads the adapter and the model it belongs to, and writes the folder."""
    del argv
    config = _adapters.run_config(WORKDIR.value)
    model = pj.Backbone.load(config["model"], dtype="float32" if MERGE.value else config["dtype"])
    found = _adapters.named(WORKDIR.value, model, CLIENT.value)
    if MERGE.value:
        merged = pj.adapters.merge(model.frozen, found.adapter)
        save(OUT.value, model.config, jax.device_get(merged), model.tokenizer)
    else:
        pj.adapters.save_peft(OUT.value, found.adapter, model, base_model=str(folder_of(config["model"])))
    asked = {"model": OUT.value} if MERGE.value else {"model": config["model"], "adapter": OUT.value}
    asked |= {"form": "instruction" if config["stage"] == "perfit" else "query", "prompt": "Name a prime."}
    words = f"{found.words} of {WORKDIR.value}{', merged into the model' * MERGE.value}"
    return Done(words, Path(OUT.value), [command("generate", **asked)])


if __name__ == "__main__":
    run(main)
