"""Profit and PerFIT in a few minutes on two CPU cores, without a download: `make demo`.

Generates a small corpus in the format of Super-NaturalInstructions, instructions in that of Dolly and a small backbone
with RANDOM weights, then runs the launchers on them, printing every command. Random weights know nothing: the run
shows what happens and where it is written, not how well it works.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import profit_jax as pj
from launch._main import launch, run
from profit_jax.backbone import Rope, Tokenizer
from profit_jax.backbone.save import save
from profit_jax.data import sni, tiny
from profit_jax.errors import InputError

OUT = flags.DEFINE_string("out", "runs/demo", "Where everything goes; must not exist.")


def main(argv: Sequence[str]) -> None:
    """Generates and runs."""
    del argv
    out, started = Path(OUT.value), time.perf_counter()
    if out.exists():
        raise InputError(f"{out} exists; remove it or choose another --out")
    print("Profit and PerFIT on a GENERATED corpus and a backbone with RANDOM weights: scores below mean nothing.\n")
    tasks = tiny.write(out / "corpus", seed=0, instances=120)
    random_model(out / "model", tasks)
    launch("prepare_sni", source_dir=tasks.parent, data_dir=out / "data", chunk_size=60)
    common = {"config": "configs/profit/demo.py", "config.model": out / "model", "config.data_dir": out / "data"}
    launch("profit_train", **common, workdir=out / "fed_avg")
    fed_sgd = {"config.algorithm": "fed_sgd", "config.local_steps": 1, "config.rounds": 32, "config.validate_every": 16}
    launch("profit_train", **common, **fed_sgd, workdir=out / "fed_sgd")
    for start in ("fed_avg", "fed_sgd"):
        fields = {"config.personalize.start": out / start, "workdir": out / f"{start}-personalized"}
        launch("profit_personalize", **common, **fields)
    launch("plot", workdir=f"{out}/fed_avg,{out}/fed_sgd,{out}/data/federated_sni", out=out / "figures")
    personalized = f"{out}/fed_avg-personalized,{out}/fed_sgd-personalized"
    launch("plot", workdir=personalized, labels="FedAvg(Adam),FedSGD", out=out / "figures")
    data = tiny.write_instructions(out / "instructions.jsonl")
    for method in ("fit", "perfit,r16"):
        fields = {"config.model": out / "model", "config.data": data, "workdir": out / method.replace(",", "-")}
        launch("perfit_train", config=f"configs/perfit/demo.py:{method}", **fields)
    launch("plot", workdir=f"{out}/fit,{out}/perfit-r16", out=out / "figures" / "perfit")
    print(f"\ndone in {time.perf_counter() - started:.0f} s; figures are in {out / 'figures'}")
    print("This was a random backbone. With a Hugging Face folder and real data: README.md, configs/*/small.py.")


def random_model(folder: Path, tasks: Path) -> None:
    """Writes a Hugging Face folder: a byte-level BPE trained on the corpus, a 2-layer Llama with random weights."""
    texts = []
    for file in sni.task_files(tasks):
        texts += [text for instance in sni.read_task(file).instances for text in (instance.input, *instance.output)]
    bpe = Bpe(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=512, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False),
    )
    inner = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>")
    config = pj.BackboneConfig(
        vocabulary=512,
        width=64,
        layers=2,
        heads=4,
        key_value_heads=2,
        head_width=16,
        mlp_width=128,
        norm_epsilon=1e-5,
        rope=Rope(10_000.0),
        tied_embeddings=True,
        end_tokens=(0,),
    )
    model = pj.Backbone.random(config)
    save(folder, config, jax.device_get(model.frozen), Tokenizer(inner, (), 0, 512))


if __name__ == "__main__":
    run(main)
