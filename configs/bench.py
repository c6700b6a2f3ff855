"""What `launch/bench.py` times: a random 24-million-parameter Llama, 8 clients, examples of 128 positions.

    python -m launch.bench --config=configs/bench.py [--config.adapter=lora]

About a minute on two CPU cores. With `data_dir` the round is one of a prepared partition instead, with `data` one of
instructions, read by the tokenizer of `model`, or, of random weights, by the one that `tokenizer` names.
`configs/bench.py:llama2_7b` and `:palm_8b` have the shapes of large models (configs/shapes.py).
"""

import itertools
from typing import Any

from ml_collections import ConfigDict

from configs.shapes import SHAPES


def get_config(shape: str = "small") -> ConfigDict:
    """Fields as in configs/profit/small.py and configs/perfit/small.py where they share a name."""
    adam = {"name": "adam", "learning_rate": 0.1, "adam": {"b1": 0.99, "b2": 0.999, "eps": 1e-8}}
    return ConfigDict(
        {
            "measure": "round",  # round, evaluation, search, aggregation
            "model": "",  # a Hugging Face folder; empty: random weights of `shape`
            "shape": SHAPES[shape],
            "dtype": "float32",  # float32, bfloat16: of the backbone's weights and of computation
            "quantize": "",  # int8: the backbone's matrices in 8 bits
            "remat": False,
            "adapter": "prompt",  # prompt, lora
            "prompt_length": 10,
            "lora_rank": 8,
            "sparsity": (0.5,),  # of aggregation alone, as is `dispatch`
            "dispatch": "selected",
            "clients": 100,
            "tokenizer": "",  # the folder whose tokenizer a random model reads data with
            "data_dir": "",  # a prepared partition's; empty, as is `data`: examples of one length
            "partition": "hhf",
            "data": "",  # instructions, dealt evenly to `clients` clients: a known set, a file, or name:file
            "example_positions": 128,  # of each example without data
            "example_labels": 16,  # those of them that are asked for the target
            "max_query": 1024,
            "max_target": 128,
            "questions": 64,  # that each client answers in an evaluation
            "new_tokens": 10,  # of an answer, at most
            "clients_per_round": 8,
            "local_steps": 4,
            "batch_size": 8,
            "client_optimizer": adam,
            "server_optimizer": adam,
            "rounds": 3,  # timed rounds after the first; 0: only plan
            "planned": 1,  # cohorts to plan at least, for the layout's numbers
            "seed": 0,
            "row_width": 16,  # positions of a row, of which a text takes whole ones
            "positions_per_flight": 2048,  # what runs out of a CPU's caches; an accelerator wants 16,384 or more
            "slack": 0.1,
        }
    )


def suite(trained: str, platform: str = "cpu") -> dict[str, tuple[str, dict[str, Any]]]:
    """The rows of `launch/bench.py --suite`: name -> what it is measured against, and the fields that it sets.

    Clients, and a server that takes their mean change, use SGD, whose result does not turn rounding into steps, so that
    adapters can be compared.

    Args:
      trained: a small trained model's folder, whose tokenizer reads all texts.
      platform: a CPU's rows are of small models in float32, a GPU's of one of 7 billion parameters.
    """
    shared = {
        "measure": "round",
        "local_steps": 1,
        "client_optimizer": {"name": "sgd", "learning_rate": 1e-4},
        "server_optimizer": {"name": "sgd", "learning_rate": 1.0},
    }
    return _gpu_suite(shared) if platform == "gpu" else _cpu_suite(shared, trained)


def _cpu_suite(shared: dict[str, Any], trained: str) -> dict[str, tuple[str, dict[str, Any]]]:
    large = {"shape": SHAPES["llama2_7b"], "clients": 20, "clients_per_round": 10}
    models = {
        "trained": {"model": trained},
        "24m": {"model": "", "shape": SHAPES["small"]},
        "110m": {"model": "", "shape": SHAPES["llama_110m"]},
    }
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "evaluation/trained": ("", {"measure": "evaluation", "model": trained, "clients_per_round": 8}),
        "search/7b": ("", {"measure": "search"} | large),
        "aggregation/7b": ("", {"measure": "aggregation"} | large),
    }
    texts = {
        "short": {"data": "", "max_query": 512, "max_target": 128},  # classes and short answers of the partition
        "long": {"data_dir": "", "max_query": 512, "max_target": 384},  # responses of the instructions
    }
    for model, text, adapter, batch in itertools.product(models, texts, ("prompt", "lora"), (32, 8, 1)):
        clients = {1: 16, 8: 4, 32: 2}[batch] // (2 if model == "110m" else 1)
        sizes = {"batch_size": batch, "clients_per_round": clients, "adapter": adapter}
        # Of 32 texts of 896 positions torch keeps 24 GB for the larger model.
        cut = {"max_query": 256} if (model, text, batch) == ("110m", "long", 32) else {}
        rows[f"round/{model}/{adapter}/{text}/b{batch}"] = ("torch", shared | sizes | models[model] | texts[text] | cut)
    return rows


def _gpu_suite(shared: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    large = shared | {
        "shape": SHAPES["llama2_7b"],
        "dtype": "bfloat16",
        "data": "",
        "max_query": 512,
        "max_target": 128,
        "row_width": 32,
        "positions_per_flight": 4096,
    }
    rows = {}
    for adapter, (batch, clients) in itertools.product(("prompt", "lora"), {8: 8, 1: 32}.items()):
        sizes = {"batch_size": batch, "clients_per_round": clients, "adapter": adapter}
        rows[f"round/7b/{adapter}/b{batch}"] = ("torch", large | sizes)
        rows[f"round/7b/int8/{adapter}/b{batch}"] = ("", large | sizes | {"quantize": "int8"})
    return rows
