"""Profit at the paper's scale (Section 3, Appendix C, Tables 2 and 3): an 8-billion-parameter model, all of SNI.

    python launch/prepare_sni.py --source_dir=SNI --data_dir=DATA
    python launch/profit_train.py --config=configs/profit/paper.py:hhf,fed_avg_adam --config.model=MODEL \
        --config.data_dir=DATA --workdir=runs/hhf-fed_avg_adam
    python launch/profit_personalize.py --config=configs/profit/paper.py:hhf,fed_avg_adam,high --config.model=MODEL \
        --config.data_dir=DATA --config.personalize.start=runs/hhf-fed_avg_adam --workdir=runs/hhf-fed_avg_adam-high

The argument is `partition,algorithm[,regime]`: hhf, mhf or lhf; fed_avg_adam, fed_avg_sgd, fed_sgd, fed_sgd_lb or
centralized; high (100 epochs) or low (10 epochs) computation in stage 2. It sets the tuned learning rates.

Cost: 4.9 million examples in training, 3.3 million generated answers an evaluation-rich curve; a pod's work, not yet
run with this code. Expected (Figures 3 and 4, PaLM-8B, HHF): local ROUGE-L about 0.32 at the end of stage 2, global
ROUGE-L not below 0.19 for FedAvg(Adam) at learning rate 0.01.
"""

from ml_collections import ConfigDict

from configs.profit import small

# Table 2: (server, client) learning rates in training. FedSGD and centralized training have the server's alone.
TRAINING = {
    "fed_avg_adam": {"hhf": (1, 0.1), "mhf": (0.1, 1), "lhf": (0.1, 1)},
    "fed_avg_sgd": {"hhf": (1, 10), "mhf": (0.1, 10), "lhf": (1, 10)},
    "fed_sgd": {"hhf": (1, None), "mhf": (1, None), "lhf": (1, None)},
    "fed_sgd_lb": {"hhf": (0.01, None), "mhf": (0.1, None), "lhf": (0.1, None)},
    "centralized": {"hhf": (1, None), "mhf": (1, None), "lhf": (1, None)},
}

# Table 3: Adam's learning rate in personalization. Low computation without an entry there takes FedAvg(Adam)'s.
PERSONALIZATION = {
    "high": {
        "fed_avg_adam": {"hhf": 1e-2, "mhf": 1e-2, "lhf": 1e-2},
        "fed_avg_sgd": {"hhf": 1e-2, "mhf": 1e-3, "lhf": 1e-2},
        "fed_sgd": {"hhf": 10**-1.5, "mhf": 1e-2, "lhf": 1e-2},
        "fed_sgd_lb": {"hhf": 1e-3, "mhf": 1e-3, "lhf": 1e-3},
        "centralized": {"hhf": 1e-2, "mhf": 1e-2, "lhf": 1e-2},
    },
    "low": {
        "fed_avg_adam": {"hhf": 1e-1, "mhf": 1e-1, "lhf": 1e-1},
        "fed_avg_sgd": {"hhf": 1e-1, "mhf": 1e-2, "lhf": 1e-1},
        "fed_sgd": {"hhf": 1e-1, "mhf": 1e-1, "lhf": 1e-1},
        "fed_sgd_lb": {"hhf": 1e-1, "mhf": 1e-1, "lhf": 1e-1},
        "centralized": {"hhf": 1e-1, "mhf": 1e-1, "lhf": 1e-1},
    },
}

# Section 3 and Appendix C: rounds, local steps, examples of a client's step. All see 300 x 16 x 32 x 32 examples.
SCHEDULE = {
    "fed_avg_adam": (300, 16, 32),
    "fed_avg_sgd": (300, 16, 32),
    "fed_sgd": (4800, 1, 32),
    "fed_sgd_lb": (300, 16, 32),  # a batch of 512, held by 16 steps of 32
    "centralized": (4800, 1, 32),  # a batch of 1,024, held by 32 shards of 32
}


def get_config(setting: str = "hhf,fed_avg_adam") -> ConfigDict:
    """The small config's fields with the paper's numbers."""
    partition, algorithm, regime = (*setting.split(","), "high")[:3]
    if algorithm not in TRAINING or partition not in TRAINING[algorithm] or regime not in PERSONALIZATION:
        raise ValueError(f"{setting!r} is not partition,algorithm[,regime]; see the head of configs/profit/paper.py")
    config = small.get_config()
    server, client = TRAINING[algorithm][partition]
    config.partition = partition
    config.algorithm = {"fed_avg_adam": "fed_avg", "fed_avg_sgd": "fed_avg", "fed_sgd_lb": "fed_sgd"}.get(
        algorithm, algorithm
    )
    config.rounds, config.local_steps, config.batch_size = SCHEDULE[algorithm]
    config.clients_per_round = 32
    config.server_optimizer = small.optimizer(float(server))
    if client is not None:
        config.client_optimizer = small.optimizer(float(client), "sgd" if algorithm == "fed_avg_sgd" else "adam")
    config.update(
        {
            "max_query": 1024,
            "max_target": 128,
            "validate_every": max(1, config.rounds // 30),
            "validation_examples": 2048,
            "checkpoint_every": max(1, config.rounds // 30),
            "dtype": "bfloat16",
            "remat": True,
            "lanes": -1,
            "row_widths": (256, 1280),
            "positions_per_flight": 16_384,
            "slack": 0.1,
        }
    )
    high = regime == "high"
    config.personalize.update(
        {
            "clients": 32,
            "train_examples": 256,
            "test_examples": 128,
            "global_examples": 2048,
            "optimizer": small.optimizer(PERSONALIZATION[regime][algorithm][partition]),
            "epochs": 100 if high else 10,
            "batch_size": 32,
            "evaluate_every": 4 if high else 1,
        }
    )
    return config
