"""Profit at the paper's scale (Section 3, Appendix C, Tables 2 and 3): an 8-billion-parameter model, all of SNI.

    python -m launch.prepare_sni --source_dir=SNI --data_dir=DATA
    python -m launch.profit_train --config=configs/profit/paper.py:hhf,fed_avg_adam --config.model=MODEL \
        --config.data_dir=DATA --workdir=runs/hhf-fed_avg_adam
    python -m launch.profit_personalize --config=configs/profit/paper.py:hhf,fed_avg_adam,high --config.model=MODEL \
        --config.data_dir=DATA --config.personalize.start=runs/hhf-fed_avg_adam --workdir=runs/hhf-fed_avg_adam-high

    python -m launch.plan --config=configs/profit/paper.py:hhf,fed_avg_adam --shape=palm_8b --topology=v5e:4x8 \
        --mesh=clients:8,model:4

The argument is a list of names as in configs/profit/small.py; it sets the tuned learning rates. The last command plans
training for 32 chips of TPU v5e, `--mesh=clients:8,model:4` of profit_train.py: 9.5 GiB of each one's 15.75.

Cost: 4.9 million examples in training, 3.3 million generated answers an evaluation-rich curve; a pod's work, not yet
run with this code. Expected (Figures 3 and 4, PaLM-8B, HHF): local ROUGE-L about 0.32 at the end of stage 2, global
ROUGE-L not below 0.19 for FedAvg(Adam) at learning rate 0.01.
"""

from ml_collections import ConfigDict

from configs.profit import small

# Table 2: (server, client) learning rates in training. FedSGD and centralized training have the server's alone.
TRAINING = {
    "hhf,fed_avg_adam": (1.0, 0.1),
    "mhf,fed_avg_adam": (0.1, 1.0),
    "lhf,fed_avg_adam": (0.1, 1.0),
    "hhf,fed_avg_sgd": (1.0, 10.0),
    "mhf,fed_avg_sgd": (0.1, 10.0),
    "lhf,fed_avg_sgd": (1.0, 10.0),
    "fed_sgd": (1.0, None),
    "hhf,fed_sgd_lb": (0.01, None),
    "mhf,fed_sgd_lb": (0.1, None),
    "lhf,fed_sgd_lb": (0.1, None),
    "centralized": (1.0, None),
}

# Table 3: Adam's learning rate in personalization, where it is not FedAvg(Adam)'s. The random starts of its last lines
# have that of FedAvg(Adam).
PERSONALIZATION = {
    "high": 1e-2,
    "high,mhf,fed_avg_sgd": 1e-3,
    "high,hhf,fed_sgd": 10**-1.5,
    "high,fed_sgd_lb": 1e-3,
    "low": 1e-1,
    "low,mhf,fed_avg_sgd": 1e-2,
    "rate_small": 1e-3,  # Figure 3 (left) has these beside that of high
    "rate_medium": 1e-1,
    "rate_large": 10**-0.5,
    "sgd": 10.0,  # Figure 10 tells none; this is Table 2's of SGD on HHF-SNI's clients
}

SETTINGS = {
    "low": {"personalize.epochs": 10, "personalize.evaluate_every": 1},
    # Figure 3 (left): the two largest rates
    **{name: {"personalize.epochs": 20, "personalize.evaluate_every": 1} for name in ("rate_medium", "rate_large")},
    "few": {"personalize.train_examples": 64},  # Figures 11 and 12
    "few,high": {"personalize.epochs": 224, "personalize.evaluate_every": 8},
    "few,low": {"personalize.epochs": 30, "personalize.evaluate_every": 3},
    "l2": {"personalize.l2": 1e-3},  # Figure 5
    "average": {"personalize.average": tuple(alpha / 10 for alpha in range(11))},
}


def get_config(setting: str = "") -> ConfigDict:
    """The small config's fields with the paper's numbers."""
    config = small.base()
    config.update(
        {
            "rounds": 300,
            "clients_per_round": 32,
            "local_steps": 16,
            "batch_size": 32,
            "max_query": 1024,
            "max_target": 128,
            "validate_every": 10,
            "validation_examples": 2048,
            "checkpoint_every": 10,
            "dtype": "bfloat16",
            "remat": True,
            "row_width": 32,
            "positions_per_flight": 16_384,
            "slack": 0.1,
        }
    )
    config.personalize.update(
        {
            "clients": 32,
            "train_examples": 256,
            "test_examples": 128,
            "global_examples": 2048,
            "epochs": 100,
            "batch_size": 32,
            "evaluate_every": 4,
        }
    )
    return small.named(config, setting, TRAINING, PERSONALIZATION, SETTINGS)
