"""Profit at the smallest scale there is, to check that things run: what the tests train. Scores mean nothing."""

from ml_collections import ConfigDict

from configs.profit import small


def get_config(setting: str = "") -> ConfigDict:
    """The small config with fewer and shorter examples."""
    config = small.base()
    config.update(
        {
            "rounds": 8,
            "max_query": 64,
            "max_target": 24,
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
    rates = small.PERSONALIZATION | {"high": 0.3}
    return small.named(config, setting, small.TRAINING, rates, small.SETTINGS)
