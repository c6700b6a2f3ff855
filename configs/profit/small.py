"""Profit on a small pretrained model and a small sample of Super-NaturalInstructions: minutes on two CPU cores.

    python -m launch.prepare_sni --source_dir=SNI --data_dir=DATA --chunk_size=150
    python -m launch.profit_train --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.algorithm=fed_avg --workdir=runs/hhf-fed_avg
    python -m launch.profit_personalize --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.personalize.start=runs/hhf-fed_avg --workdir=runs/hhf-fed_avg-p13n

The argument, --config=configs/profit/small.py:mhf,fed_sgd,low, is a list of names, which every scale takes:

    hhf mhf lhf                                                partition
    fed_avg_adam fed_avg_sgd fed_sgd fed_sgd_lb centralized    algorithm; all see as many examples
    length5 length20                                           rows of the prompt, 10 without
    high low                                                   stage 2 with many epochs or few, each with its rate
    rate_small rate_medium rate_large                          stage 2 with another rate
    sgd                                                        stage 2 with SGD, and its rate
    few                                                        stage 2 on a quarter of the training examples
    l2 average freeze_first freeze_last                        stage 2's heuristics
    random_gaussian random_word no_prompt few_shot             stage 2's baselines
    validation                                                 stage 2 on the validation clients, to tune

Cost with a Llama of 260,032 parameters: about 2 minutes a command. Expected then: local ROUGE-L from 0.01 to about 0.12
in ten epochs, global from 0.01 to 0.035 (docs/results.md has the table).
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs.names import Settings, apply

ALGORITHMS = {
    "fed_avg_adam": {"algorithm": "fed_avg"},
    "fed_avg_sgd": {"algorithm": "fed_avg", "client_optimizer.name": "sgd"},
    "fed_sgd": {"algorithm": "fed_sgd"},
    "fed_sgd_lb": {"algorithm": "fed_sgd"},  # the client's large batch is held by its local steps
    "centralized": {"algorithm": "centralized"},
}
PARTITIONS = ("hhf", "mhf", "lhf")
ONE_OF = (PARTITIONS, tuple(ALGORITHMS), ("high", "low"))
NAMES = {
    **{name: {"partition": name} for name in PARTITIONS},
    **ALGORITHMS,
    "length5": {"prompt.length": 5},
    "length20": {"prompt.length": 20},
    "average": {"personalize.average": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)},
    "freeze_first": {"personalize.freeze_first": 8},
    "freeze_last": {"personalize.freeze_last": 8},
    **{name: {"personalize.start": name} for name in ("random_gaussian", "random_word", "no_prompt", "few_shot")},
    "validation": {"personalize.split": "validation"},
    "sgd": {"personalize.optimizer.name": "sgd"},
}

# (server, client) learning rates of stage 1; FedSGD and centralized training have the server's alone.
TRAINING = {
    "fed_avg_adam": (0.3, 0.1),
    "fed_avg_sgd": (0.3, 0.03),
    "fed_sgd": (0.3, None),
    "fed_sgd_lb": (0.3, None),
    "centralized": (0.3, None),
}
# Learning rates of stage 2.
PERSONALIZATION = {"high": 0.1, "low": 0.5, "rate_small": 0.02, "rate_medium": 0.2, "rate_large": 0.5, "sgd": 0.1}
SETTINGS = {
    "low": {"personalize.epochs": 4, "personalize.evaluate_every": 1},
    "few": {"personalize.train_examples": 16},
    "few,high": {"personalize.epochs": 22, "personalize.evaluate_every": 4},
    "few,low": {"personalize.epochs": 12, "personalize.evaluate_every": 3},
    "l2": {"personalize.l2": 0.1},
}


def optimizer(learning_rate: float, name: str = "adam") -> ConfigDict:
    """An optax optimizer; beside its name and rate the settings it takes when it is Adam (Profit Appendix C)."""
    adam = {"b1": 0.99, "b2": 0.999, "eps": 1e-8}
    return ConfigDict({"name": name, "learning_rate": learning_rate, "adam": adam})


def get_config(setting: str = "") -> ConfigDict:
    """The config of the names in `setting`."""
    return named(base(), setting, TRAINING, PERSONALIZATION, SETTINGS)


def named(
    config: ConfigDict,
    setting: str,
    training: Mapping[str, tuple[float, float | None]],
    personalization: Mapping[str, float],
    settings: Settings,
) -> ConfigDict:
    """Sets what the names in `setting` mean at any scale, and the scale's numbers.

    Args:
      config: the scale's fields for FedAvg; changed in place.
      setting: names, separated by commas.
      training: names -> learning rates of stage 1, server and client.
      personalization: names -> learning rate of stage 2.
      settings: names -> other numbers that are the scale's own.
    """
    # An algorithm with one step a round takes as many more rounds, and is evaluated as often.
    single = {field: config[field] * config.local_steps for field in ("rounds", "validate_every", "checkpoint_every")}
    steps = {name: single | {"local_steps": 1} for name in ("fed_sgd", "centralized")}
    server = {name: {"server_optimizer.learning_rate": rates[0]} for name, rates in training.items()}
    client = {name: {"client_optimizer.learning_rate": rates[1]} for name, rates in training.items() if rates[1]}
    stage2 = {name: {"personalize.optimizer.learning_rate": rate} for name, rate in personalization.items()}
    return apply(config, setting, NAMES, steps, server, client, stage2, settings, one_of=ONE_OF)


def base() -> ConfigDict:
    """Every field reaches the code; what they mean stands in `experiment.train` and `benchmark.personalize`."""
    return ConfigDict(
        {
            "model": "",  # a Hugging Face folder
            "data_dir": "",  # as prepare_sni.py has written it
            "partition": "hhf",  # hhf, mhf, lhf
            "algorithm": "fed_avg",  # fed_avg, fed_sgd, centralized
            "rounds": 30,
            "seed": 0,
            "clients_per_round": 8,
            "local_steps": 4,
            "batch_size": 8,
            "client_optimizer": optimizer(0.1),
            "server_optimizer": optimizer(0.3),
            "weighting": "uniform",  # uniform, examples
            "reduction": "example",  # example (Eq. 1), token
            "prompt": {"length": 10, "init": "gaussian", "text": ""},
            "max_query": 112,
            "max_target": 32,
            "new_tokens": 10,
            "validate_every": 10,
            "validation_examples": 128,
            "checkpoint_every": 10,
            "dtype": "float32",  # float32, bfloat16: of the backbone's weights and of computation
            "quantize": "",  # int8: the backbone's matrices in 8 bits
            "remat": False,
            "row_width": 16,  # positions of a row, of which a text takes whole ones
            "positions_per_flight": 2048,  # 0: what a trial finds
            "slack": 0.5,
            "personalize": {
                "start": "",  # a workdir, a PEFT folder, or random_gaussian, random_word, no_prompt, few_shot
                "split": "test",  # whose clients: test, validation
                "clients": 8,
                "train_examples": 64,
                "test_examples": 32,
                "global_examples": 128,
                "optimizer": optimizer(0.1),
                "epochs": 10,
                "batch_size": 8,
                "evaluate_every": 2,
                "l2": 0.0,
                "average": (),
                "freeze_first": 0,
                "freeze_last": 0,
                "seed": 0,
            },
        }
    )
