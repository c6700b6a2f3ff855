"""PerFIT at the smallest scale there is, to check that things run: what the tests train. Scores mean nothing."""

from ml_collections import ConfigDict

from configs import names
from configs.perfit import small


def get_config(setting: str = "") -> ConfigDict:
    """The small config with fewer clients and shorter examples."""
    config = small.get_config()
    config.update(
        {
            "clients": 8,
            "clients_per_round": 4,
            "size": 20,
            "rounds": 4,
            "pruning_epochs": 2,
            "max_query": 40,
            "max_target": 16,
            "clients_at_once": 4,
        }
    )
    return names.apply(config, setting, small.SETTINGS)
