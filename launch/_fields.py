"""The fields of a config by their names, dotted where they are nested."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from profit_jax.errors import nearest


def has(config: ConfigDict, field: str) -> bool:
    """Whether a config has a field."""
    for name in field.split("."):
        if not isinstance(config, ConfigDict) or name not in config:
            return False
        config = config[name]
    return True


def near(config: ConfigDict, field: str) -> str | None:
    """The field that somebody may have meant who wrote one that the config does not have, or has elsewhere."""
    names = [name for name, _ in leaves(config.to_dict())]
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    return nearest(field, names) or by_last.get(nearest(field.rpartition(".")[2], by_last) or "")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of what a nested object holds."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value
