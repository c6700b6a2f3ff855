"""The round that `launch/bench.py` times: a random 24-million-parameter Llama, 8 clients, examples of 128 positions.

    python launch/bench.py --config=configs/bench.py [--config.adapter=lora]

About a minute on two CPU cores. With `model` and `data_dir` the round is one of a prepared partition instead.
`configs/bench.py:llama2_7b` and `:palm_8b` have the shapes of large models (configs/shapes.py).
"""

from ml_collections import ConfigDict

from configs.shapes import SHAPES


def get_config(shape: str = "small") -> ConfigDict:
    """Fields as in configs/profit/small.py and configs/perfit/small.py where they share a name."""
    adam = {"name": "adam", "learning_rate": 0.1, "adam": {"b1": 0.99, "b2": 0.999, "eps": 1e-8}}
    return ConfigDict(
        {
            "measure": "round",  # round, aggregation
            "model": "",  # a Hugging Face folder; empty: random weights of `shape`
            "shape": SHAPES[shape],
            "dtype": "float32",  # float32, bfloat16: of the backbone's weights and of computation
            "quantize": "",  # int8: the backbone's matrices in 8 bits
            "remat": False,
            "adapter": "prompt",  # prompt, lora
            "prompt_length": 10,
            "lora_rank": 8,
            "sparsity": (0.5,),  # from here on of aggregation alone
            "clients": 100,
            "dispatch": "selected",
            "data_dir": "",  # empty: every example has `example_positions`, `example_labels` of them labelled
            "partition": "hhf",
            "example_positions": 128,
            "example_labels": 16,
            "max_query": 1024,
            "max_target": 128,
            "clients_per_round": 8,
            "local_steps": 4,
            "batch_size": 8,
            "client_optimizer": adam,
            "server_optimizer": adam,
            "rounds": 3,  # timed rounds after the first; 0: only plan
            "planned": 1,  # cohorts to plan at least, for the layout's numbers
            "seed": 0,
            "row_widths": (128, 1280),
            "positions_per_flight": 2048,  # what runs out of a CPU's caches; an accelerator wants 16,384 or more
            "slack": 0.1,
        }
    )
