"""Profit on the embedded model and corpus, for many runs on two CPU cores: well under a minute a run.

    python -m launch.reproduce --experiment=profit/observation1 --workdir=runs/effects --seeds=5

The argument is a list of names as in configs/profit/small.py. Expected of five seeds: local ROUGE-L from 0.46 to 0.90,
global from 0.48 to 0.41 (docs/results.md has the table).
"""

from ml_collections import ConfigDict

from configs.profit import small

# (server, client) learning rates of stage 1, as launch/sweep.py chose them of server rates from 0.01 to 0.1; FedSGD and
# centralized training have the server's alone. That of fed_sgd_lb is FedSGD's.
TRAINING = {
    "fed_avg_adam": (0.1, 0.1),
    "fed_avg_sgd": (0.1, 10.0),
    "fed_sgd": (0.1, None),
    "fed_sgd_lb": (0.1, None),
    "centralized": (0.1, None),
}
# Learning rates of stage 2, one for all starts, so that starts alone are compared.
PERSONALIZATION = {"high": 0.1, "low": 10**-0.5, "rate_small": 10**-1.5, "rate_large": 1.0}
PERSONALIZATION |= {"rate_medium": 10**-0.5, "sgd": 1.0}  # not searched
SETTINGS = {
    "low": {"personalize.epochs": 4},
    "few": {"personalize.train_examples": 8},
    "few,high": {"personalize.epochs": 15, "personalize.evaluate_every": 3},
    "few,low": {"personalize.epochs": 12, "personalize.evaluate_every": 3},
    "l2": {"personalize.l2": 0.1},
    "validation": {"personalize.clients": 4, "personalize.evaluate_every": 5},  # a search asks for the last point
}
# Rates that searches try, names -> field -> rates: the above and, in stage 1, all that the paper's Table 2 holds.
SERVER, CLIENT = "server_optimizer.learning_rate", "client_optimizer.learning_rate"
SEARCHED = {
    "fed_avg_adam": {SERVER: (0.1, 1.0), CLIENT: (0.1, 1.0)},
    "fed_avg_sgd": {SERVER: (0.1, 1.0), CLIENT: (1.0, 10.0)},
    **{name: {SERVER: (0.01, 0.1, 1.0)} for name in ("fed_sgd", "fed_sgd_lb", "centralized")},
    "validation": {"personalize.optimizer.learning_rate": (0.1, 10**-0.5, 1.0)},
}


def get_config(setting: str = "") -> ConfigDict:
    """The small config's fields on the embedded model, with short examples."""
    config = small.base()
    config.update(
        {
            "model": "tiny",
            "rounds": 16,
            "batch_size": 4,
            "max_query": 56,
            "max_target": 20,
            "validate_every": 8,
            "validation_examples": 464,
            "checkpoint_every": 16,
        }
    )
    config.personalize.update(
        {
            "clients": 8,
            "train_examples": 32,
            "batch_size": 4,
            "test_examples": 16,
            "global_examples": 48,
            "epochs": 5,
            "evaluate_every": 1,
        }
    )
    return small.named(config, setting, TRAINING, PERSONALIZATION, SETTINGS)
