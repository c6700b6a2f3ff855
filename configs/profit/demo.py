"""What `make demo` runs: configs/profit/small.py, shrunk for a generated corpus and a random backbone."""

from ml_collections import ConfigDict

from configs.profit import small


def get_config() -> ConfigDict:
    """The small config with fewer and shorter examples."""
    config = small.get_config()
    config.update(
        {
            "rounds": 8,
            "max_query": 64,
            "max_target": 24,
            "row_widths": (96,),
            "validate_every": 4,
            "validation_examples": 64,
        }
    )
    config.personalize.update(
        {
            "clients": 4,
            "train_examples": 32,
            "test_examples": 16,
            "global_examples": 64,
            "epochs": 8,
            "evaluate_every": 1,
        }
    )
    config.personalize.optimizer.learning_rate = 0.3
    return config
