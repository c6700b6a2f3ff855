"""Pretrains the small backbone that ships with the package, on the generated text of `profit_jax.data.tiny`.

    python -m launch.pretrain_tiny --out=MODEL [--config.plan.steps=300 ...]

Writes a Hugging Face folder (config.json, model.safetensors, a tokenizer) with a README.md that says how it was made
and how good it is. Nothing stands in the folder before all of it does.
"""

import itertools
import json
import math
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from launch._done import Done
from launch._main import command, define_config, run
from profit_jax.backbone import BackboneConfig, Rope, Tokenizer
from profit_jax.backbone.pretrain import bpe
from profit_jax.backbone.save import save
from profit_jax.data import tiny
from profit_jax.errors import InputError
from profit_jax.experiment.pretrain import Document, Plan, Pretrained, answers, pretrain

CONFIG = define_config("configs/pretrain_tiny.py")
OUT = flags.DEFINE_string("out", None, "The model's folder; must be new or empty.", required=True)

_SAMPLES = 8  # answers shown in the README


def main(argv: Sequence[str]) -> Done:
    """Trains the tokenizer, then the decoder; writes both."""
    del argv
    config, out = CONFIG.value, Path(OUT.value)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder; remove it or choose another --out")
    plan = Plan(**config.plan)
    tokenizer = bpe(texts(config), config.vocabulary)
    held_out = list(itertools.islice(tiny.documents(config.held_out_seed), config.held_out_documents))
    made = pretrain(
        decoder(config, tokenizer), tokenizer, tiny.documents(config.seed), held_out, plan, seed=config.seed
    )
    write(out, made, card(config, made, held_out))
    best = made.scores[-1]
    asked = command("generate", model=out, form="text", prompt=next(context for context, _ in held_out if context))
    return Done(f"held-out loss {best.loss:.3f}, accuracy {100 * best.accuracy:.1f} %", out, [asked])


def texts(config: ConfigDict) -> list[str]:
    """What the tokenizer is trained on."""
    documents = itertools.islice(tiny.documents(config.seed), config.tokenizer_documents)
    return [text for document in documents for text in document if text]


def decoder(config: ConfigDict, tokenizer: Tokenizer) -> BackboneConfig:
    """The decoder's numbers; its vocabulary is the tokenizer's."""
    return BackboneConfig(
        vocabulary=tokenizer.size,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        key_value_heads=config.key_value_heads,
        head_width=config.head_width,
        mlp_width=config.mlp_width,
        norm_epsilon=config.norm_epsilon,
        rope=Rope(config.rope_theta),
        tied_embeddings=True,
        end_tokens=(tokenizer.end,),
    )


def write(out: Path, made: Pretrained, text: str) -> None:
    """Writes everything to a folder beside `out`, which then takes its name."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        model = made.backbone
        save(unfinished, model.config, jax.device_get(model.frozen), model.tokenizer)
        (unfinished / "README.md").write_text(text, encoding="utf-8")
        unfinished.chmod(0o755)  # mkdtemp's is private
        os.replace(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def card(config: ConfigDict, made: Pretrained, held_out: Sequence[Document]) -> str:
    """The README.md: how the model was made, and how good it is."""
    last, device = made.scores[-1], jax.devices()[0]
    machine = f"{os.cpu_count()} CPU cores" if device.platform == "cpu" else device.device_kind
    asked = [document for document in held_out if document[0]]
    shown = zip(asked, answers(made.backbone, asked[:_SAMPLES]))
    samples = "\n".join(f"- {json.dumps([*document, given], ensure_ascii=False)}" for document, given in shown)
    settings = [argument for argument in sys.argv[1:] if argument.startswith("--config")]
    size = made.backbone.required_tokenizer.size
    scores = "\n".join(f"| {score.step} | {score.loss:.4f} | {score.accuracy:.3f} |" for score in made.scores)
    return f"""---
license: apache-2.0
---

# profit-jax tiny

A Llama of {made.parameters:,} parameters with a byte-level BPE of {size} tokens. It was
pretrained from random weights by profit-jax itself, on text that `profit_jax.data.tiny.documents` generates: no text
that anybody wrote. It knows that generated world and nothing else; it is there so that federated tuning can be tried
and tested without a download.

## How it was made

    python -m launch.pretrain_tiny {shlex.join(["--out=MODEL", *settings])}

- {made.tokens:,} tokens of {made.counts["documents"]:,} documents; {made.counts["dropped"]:,} more were longer than a
  row and left out.
- {made.seconds / 60:.1f} minutes on {machine}, {made.tokens / made.seconds:,.0f} tokens a second, evaluation included.
- In the loss a token of a document's context counts {config.plan.context_weight}, one of its answer or its end 1.
- The whole config:

```json
{json.dumps(config.to_dict(), indent=2)}
```

## How good it is

On {len(held_out):,} documents of another seed, which were left out of training: the loss of an answer's token (its end
token included) in nats, and the share of {min(len(asked), config.plan.answers)} contexts whose greedy answer is right
to the letter. Of 100 contexts 16 leave the answer open (queries that any text may follow, requests that eight answers
fit), and are answered rightly by chance.

| step | loss | accuracy |
|---|---|---|
{scores}

The last loss is a perplexity of {math.exp(last.loss):.3f}. The first contexts held out, each with the right
answer and the one given:

{samples}
"""


if __name__ == "__main__":
    run(main)
