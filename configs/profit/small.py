"""Profit on a small pretrained model and a small sample of Super-NaturalInstructions: minutes on two CPU cores.

    python launch/prepare_sni.py --source_dir=SNI --data_dir=DATA --chunk_size=150
    python launch/profit_train.py --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.algorithm=fed_avg --workdir=runs/hhf-fed_avg
    python launch/profit_personalize.py --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.personalize.start=runs/hhf-fed_avg --workdir=runs/hhf-fed_avg-p13n

FedAvg(SGD): --config.client_optimizer.name=sgd --config.client_optimizer.learning_rate=0.03
FedSGD sees as many examples in `local_steps` times as many rounds: --config.algorithm=fed_sgd --config.local_steps=1
--config.rounds=120.

Cost with a Llama of 260,032 parameters: about 2 minutes a command. Expected then: local ROUGE-L from 0.01 to about 0.12
in ten epochs, global from 0.01 to 0.035 (README.md has the table).
"""

from ml_collections import ConfigDict


def optimizer(learning_rate: float, name: str = "adam") -> ConfigDict:
    """An optax optimizer; beside its name and rate the settings it takes when it is Adam (Profit Appendix C)."""
    adam = {"b1": 0.99, "b2": 0.999, "eps": 1e-8}
    return ConfigDict({"name": name, "learning_rate": learning_rate, "adam": adam})


def get_config() -> ConfigDict:
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
            "dtype": "float32",
            "remat": False,
            "lanes": 1,  # devices along `clients`, -1 = all
            "row_widths": (160,),
            "positions_per_flight": 2048,
            "slack": 0.5,
            "personalize": {
                "start": "",  # a training run's workdir, or random_gaussian, random_word, no_prompt, few_shot
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
